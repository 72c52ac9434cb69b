"""BuildKit's output as people see it."""

from __future__ import annotations

from tljh_plugin.build.progress import Progress

INSTALL = (
    "/usr/bin/python3 -I -S /usr/local/lib/littlest-binder/install.py --user 1:1 --wheels "
    "-- -r /run/littlest-binder/src/requirements.txt"
)
PLAIN = f"""\
#0 building with "default" instance using docker driver

#1 [internal] load build definition from Dockerfile
#1 transferring dockerfile: 3.96kB done
#1 DONE 0.0s

#2 [internal] load metadata for docker.io/littlest-binder/base:0123456789ab
#2 DONE 0.7s

#3 [1/4] FROM docker.io/littlest-binder/base:0123456789ab
#3 CACHED

#4 [stage-0 2/4] RUN --mount=type=cache,id=x,target=/y {INSTALL}
#4 0.250 Resolved 1 package in 283ms
#4 0.300 \x1b[32m + cowsay==6.1\x1b[0m
#4 ...

#5 [stage-0 3/4] RUN sleep 1
#5 DONE 0.2s

#4 [stage-0 2/4] RUN --mount=type=cache,id=x,target=/y {INSTALL}
#4 DONE 1.5s

#6 [4/4] RUN ./postBuild
#6 0.100 no such thing
#6 ERROR: executor failed running [/bin/sh -c ./postBuild]: exit code: 1
------
 > [4/4] RUN ./postBuild:
0.100 no such thing
------
Dockerfile:12
--------------------
ERROR: failed to solve: executor failed running [/bin/sh -c ./postBuild]: exit code: 1
"""


def test_what_people_need_is_shown_and_nothing_twice() -> None:
    progress = Progress()
    shown = [text for line in PLAIN.splitlines() if (text := progress.read(line)) is not None]
    assert shown == [
        "Step 1/4: FROM docker.io/littlest-binder/base:0123456789ab",
        "unchanged since an earlier build",
        "Step 2/4: install what requirements.txt asks for",
        "Resolved 1 package in 283ms",
        " + cowsay==6.1",
        "Step 3/4: RUN sleep 1",
        "done in 1.5 s",
        "Step 4/4: RUN ./postBuild",
        "no such thing",
        "ERROR: executor failed running [/bin/sh -c ./postBuild]: exit code: 1",
        "ERROR: failed to solve: executor failed running [/bin/sh -c ./postBuild]: exit code: 1",
    ]


def test_the_percentage_only_grows() -> None:
    progress, seen = Progress(), []
    succeeded = PLAIN.partition("------")[0].splitlines()
    for line in [*succeeded, "#9 exporting to image", "#3 [1/4] FROM x"]:
        progress.read(line)
        seen.append(progress.percent)
    assert seen == sorted(seen)
    assert {0, 2, 24, 47, 69, 93} == set(seen)


def test_lines_of_other_programs_pass() -> None:
    assert Progress().read("Warning: something of repo2docker\n") == "Warning: something of repo2docker"
    assert Progress().read("#7 12.3 # a comment: [internal] sha256:1") == "# a comment: [internal] sha256:1"


def test_a_second_build_is_shown_like_the_first() -> None:
    progress = Progress()
    once = [text for line in PLAIN.splitlines() if (text := progress.read(line)) is not None]
    again = [text for line in PLAIN.splitlines() if (text := progress.read(line)) is not None]
    assert once == again


def test_very_long_commands_are_cut() -> None:
    assert len(Progress().read("#4 [2/2] RUN " + "x" * 5000) or "") < 500
