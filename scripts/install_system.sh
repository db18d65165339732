#!/bin/sh
# Installs what the project needs from the system's packages, where that is possible: bubblewrap, the sandbox
# for trials; or, with the argument "npm", Node.js and npm, with which OpenCode is installed; or, with "chromium", the
# browser in which the tests open the report.
set -u
as_root=""
[ "$(id -u)" = 0 ] || as_root="sudo -n"
case "${1:-bubblewrap}" in
    bubblewrap) command=bwrap packages=bubblewrap without="trials run without a sandbox" ;;
    npm) command=npm packages="nodejs npm" without="OpenCode cannot be installed" ;;
    chromium) command=chromium packages=chromium without="pages are not tested in a browser" ;;
    *) echo "install_system.sh: $1 is not known (mend: bubblewrap, npm or chromium)" >&2; exit 2 ;;
esac
log=/tmp/autolab-install-system.log
# shellcheck disable=SC2086  # the words of $packages and $as_root are meant to be split
if command -v apt-get >/dev/null; then
    $as_root apt-get update -qq && $as_root apt-get install -y -qq --no-install-recommends $packages
elif command -v dnf >/dev/null; then
    $as_root dnf install -y -q $packages
elif command -v pacman >/dev/null; then
    $as_root pacman -S --noconfirm --quiet $packages
fi >"$log" 2>&1
command -v "$command" >/dev/null && exit 0
echo "$packages could not be installed (see $log): $without." >&2
echo "Mend: install $packages with your system's package manager." >&2
exit 0
