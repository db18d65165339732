#!/bin/sh
# Installs bubblewrap, the sandbox for trials, from the system's packages where that is possible.
set -u
as_root=""
[ "$(id -u)" = 0 ] || as_root="sudo -n"
if command -v apt-get >/dev/null; then
    $as_root apt-get update -qq && $as_root apt-get install -y -qq bubblewrap
elif command -v dnf >/dev/null; then
    $as_root dnf install -y -q bubblewrap
elif command -v pacman >/dev/null; then
    $as_root pacman -S --noconfirm --quiet bubblewrap
fi >/tmp/autolab-install-system.log 2>&1
command -v bwrap >/dev/null && exit 0
echo "bubblewrap could not be installed (see /tmp/autolab-install-system.log): trials run without a sandbox." >&2
echo "Mend: install the package 'bubblewrap' with your system's package manager." >&2
exit 0
