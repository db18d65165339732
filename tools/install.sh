#!/bin/sh
# Installs OpenCode and ripgrep, as package.json pins them, into tools/node_modules. `make opencode` runs it.
set -eu
cd "$(dirname "$0")"
stop() { echo "autolab: $1 (mend: $2)" >&2; exit 2; }

command -v npm >/dev/null || sh ../scripts/install_system.sh npm 2>/dev/null
command -v npm >/dev/null || stop "npm is needed to install OpenCode" "install Node.js 18 or newer with npm"

# OpenCode's own install step runs it once, and it makes folders in the home: it gets one that goes again.
settings=${NPM_CONFIG_USERCONFIG:-$HOME/.npmrc}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
unset XDG_CONFIG_HOME XDG_CACHE_HOME XDG_DATA_HOME XDG_STATE_HOME
export HOME="$scratch" TMPDIR="$scratch"
# The lock file knows the hashes of the Linux x86-64 builds; those of other platforms are pinned by version.
npm ci --userconfig "$settings" --ignore-scripts=false --no-audit --no-fund --no-update-notifier --loglevel=error \
    --logs-max=0 ||
    stop "npm could not install OpenCode" "see its message above; it needs a package registry"

wanted=$(sed -n 's/.*"opencode-ai": "\(.*\)".*/\1/p' package.json)
found=$(node_modules/.bin/opencode --version 2>&1) || true
[ "$found" = "$wanted" ] || stop "OpenCode $wanted was installed but says: $found" "remove tools/node_modules and try again"
echo "OpenCode $wanted is in tools/node_modules."
