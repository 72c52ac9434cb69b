"""An image with all that an image can lie about and bring along; the same for a whole run of tests."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DOCKERFILE = """\
FROM {base}
USER root
SHELL ["/bin/bash", "-euc"]
RUN mkdir /opt/evil /vol; \\
    install -m 6755 /usr/bin/id /opt/evil/id; install -m 755 /bin/cat /opt/evil/cat; \\
    mknod -m 666 /opt/evil/device c 10 229; \\
    cp -a /opt/evil/id /opt/evil/device /vol/
# cap_dac_override, permitted and effective: see vfs_cap_data in linux/capability.h
RUN /srv/venv/bin/python -c 'import os, struct; \\
    os.setxattr("/opt/evil/cat", "security.capability", struct.pack("<5I", 0x2000001, 2, 0, 0, 0))'
RUN sed -i '/:1000:/d; /^root:/d' /etc/passwd /etc/shadow; \\
    printf '%s\\n' root::0:0::/:/bin/sh jovyan:x:0:0::/:/bin/sh >> /etc/passwd; \\
    printf '%s\\n' plain:x:1000:1000::/:/bin/sh >> /etc/passwd; \\
    printf 'secret:x:4242:jovyan,plain\\n' >> /etc/group
RUN printf '%s\\n' '#!/bin/sh' 'id > /tmp/entry-ran-as' 'exec /usr/local/bin/repo2docker-entrypoint "$@"' \\
        > /opt/evil/entry; \\
    chmod 755 /opt/evil/entry
VOLUME /vol
USER jovyan
ENTRYPOINT ["/opt/evil/entry"]
ENV JUPYTERHUB_API_TOKEN=of-the-image JUPYTERHUB_API_URL=http://203.0.113.1/hub/api JUPYTERHUB_USER=admin \\
    JUPYTERHUB_SERVICE_PREFIX=/user/admin/ JUPYTERHUB_OAUTH_SCOPES=[] HOME=/root
LABEL org.littlest-binder.instance=of-the-image org.littlest-binder.kind=stub \\
    org.littlest-binder.person=admin org.littlest-binder.server=of-the-image
HEALTHCHECK --interval=1s --timeout=1s CMD touch /tmp/health-check-ran
STOPSIGNAL SIGCONT
"""


@contextmanager
def hostile_image(base: str, folder: Path) -> Iterator[str]:
    """Its name; removed at the end."""
    (folder / "Dockerfile").write_text(DOCKERFILE.format(base=base))
    name = f"littlest-binder-test/hostile-{secrets.token_hex(4)}:1"
    subprocess.run(
        ["docker", "buildx", "build", "--quiet", "--tag", name, str(folder)], check=True, capture_output=True
    )
    try:
        yield name
    finally:
        subprocess.run(["docker", "image", "rm", "--force", name], check=True, capture_output=True)
