#!/bin/sh
# Puts The Littlest Binder on TLJH onto this machine: provision.sh ADMIN CHECKOUT [DATA [OFFLINE]]
#
# ADMIN is the administrator's name, CHECKOUT the folder of the project, DATA a folder that everybody's servers
# may read, as the mount `data`; OFFLINE a folder with what the internet would supply, see
# docs/how-to/install-offline.md. Of both, an empty word is none. Can be run again: the installer uses what is
# there, and the mount is added once. Run as root by `vagrant up`, and by the tests in a machine of theirs.
set -eu

if [ $# -lt 2 ] || [ $# -gt 4 ]; then
    echo "usage: provision.sh ADMIN CHECKOUT [DATA [OFFLINE]]" >&2
    exit 2
fi
admin=$1
checkout=$2
data=${3:-}
offline=${4:-}

if [ "$(id -u)" != 0 ]; then
    echo "provision.sh needs root rights: sudo $0 $*" >&2
    exit 2
fi
if [ ! -e "$checkout/installer/bootstrap.py" ]; then
    echo "provision.sh: $checkout has no installer/bootstrap.py; is it the project's folder?" >&2
    exit 2
fi
for folder in "$data" "$offline"; do
    if [ -n "$folder" ] && [ ! -d "$folder" ]; then
        echo "provision.sh: there is no folder $folder" >&2
        exit 2
    fi
done

# A minimal image has neither; the installer itself needs Python only.
if ! command -v python3 >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get -q update
    apt-get -q -y --no-install-recommends install python3
fi

python3 "$checkout/installer/bootstrap.py" tljh --admin "$admin" --yes ${offline:+--offline "$offline"}

# The catalogue is a list of sections, for which `tljh-config` has no command; the environment of the hub knows
# how to change a YAML file without losing its comments. Holds at the next start of a server.
if [ -n "$data" ]; then
    /opt/tljh/hub/bin/python3 - /opt/tljh/config/config.yaml "$data" <<'PYTHON'
import os
import sys
from pathlib import Path

from ruamel.yaml import YAML

path, source = Path(sys.argv[1]), sys.argv[2]
yaml = YAML()
document = (yaml.load(path.read_text()) if path.exists() else None) or {}
section = document.get("binder") or {}
mounts = section.get("mounts") or []
if any(mount.get("id") == "data" for mount in mounts):
    sys.exit()
mounts.append({"id": "data", "title": "Example data", "source": source, "default": True})
section["mounts"] = mounts
document["binder"] = section
draft = path.with_name(f".{path.name}.{os.getpid()}")
# The file may hold secrets of an authenticator.
with open(draft, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
    yaml.dump(document, file)
if path.exists():
    draft.chmod(path.stat().st_mode & 0o777)
draft.rename(path)
PYTHON
    echo "The folder $data is offered to everybody's servers, as the mount data."
fi
