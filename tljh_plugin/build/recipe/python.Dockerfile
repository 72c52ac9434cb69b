# Our base with another Python than Debian's.
FROM {{ base }}
USER root
RUN --mount=type=secret,id=uv-trusted.toml,target=/run/uv.toml \
    export UV_HTTP_TIMEOUT=30 UV_HTTP_RETRIES=1 UV_PYTHON_INSTALL_BIN=0; \
    if [ -e /run/uv.toml ]; then export UV_CONFIG_FILE=/run/uv.toml; else export UV_NO_CONFIG=1; fi; \
    timeout 300 uv python install --no-cache --no-progress --install-dir /srv/python {{ version }}
USER {{ uid }}:{{ gid }}
RUN --mount=type=secret,id=uv-trusted.toml,target=/etc/uv/uv.toml,mode=0444 \
    --mount=type=bind,source=jupyter.txt,target=/run/jupyter.txt \
    python=$(UV_PYTHON_INSTALL_DIR=/srv/python uv python find --no-config --managed-python --system {{ version }}) && \
    uv venv --quiet --no-cache --no-config --clear --python "$python" /srv/venv && \
    UV_INDEX_STRATEGY=unsafe-best-match \
      uv pip install --quiet --no-cache --compile-bytecode --python /srv/venv/bin/python -r /run/jupyter.txt
COPY --chown={{ uid }}:{{ gid }} --chmod=0644 lab.json /srv/venv/{{ lab_settings }}
ENV {{ variable }}={{ version }}
