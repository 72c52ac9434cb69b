FROM {{ base }}
ARG NB_USER
ARG NB_UID
{%- if repo_dir %}
ENV REPO_DIR={{ repo_dir }} \
    PATH={{ repo_dir }}/.local/bin:${PATH}
{%- endif %}
USER root
{%- if apt %}
RUN --mount=type=cache,id={{ cache }}-apt,target=/var/cache/apt,sharing=private \
    --mount=type=cache,id={{ cache }}-lists,target=/var/lib/apt/lists,sharing=private \
    apt-get -qq update && \
    apt-get install --yes --quiet --no-install-recommends -o Dpkg::Use-Pty=0 {{ apt | join(" ") }}
{%- endif %}
{%- if repo_dir %}
RUN install -d -o {{ uid }} -g {{ gid }} {{ repo_dir }}
WORKDIR {{ repo_dir }}
{%- endif %}
{%- for step in before %}
RUN {{ step }}
{%- endfor %}
COPY --chown={{ uid }}:{{ gid }} . {{ repo_dir or "${HOME}" }}/
{%- for step in after %}
RUN {{ step }}
{%- endfor %}
USER {{ uid }}:{{ gid }}
{%- if scripts %}
RUN chmod +x {{ scripts | join(" ") }}
{%- endif %}
{%- for script in post_build %}
RUN {{ open_settings }} ./{{ script }}
{%- endfor %}
{%- if start %}
ENV R2D_ENTRYPOINT="{{ start }}"
{%- endif %}
{%- if appendix %}
{{ appendix }}
{%- endif %}
