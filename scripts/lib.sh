# Shared by serve, test and check: the checkout's virtual environment. Sourced, not run.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
VENV=$ROOT/.venv

say() { printf '%s\n' "$*" >&2; }

die() {
    say "${0##*/}: $*"
    exit 1
}

# Prints how long an interpreter takes for some work like ours, in microseconds, with its version and its real path;
# fails if it is too old, or cannot make a virtual environment.
PROBE='
import ensurepip, sys, time, venv
assert sys.version_info >= (3, 11)
class Thing:
    def __init__(self, number): self.number = number
    def same(self, things): return things.get(self.number) is self
def work():
    began, things = time.perf_counter(), {}
    for number in range(20000):
        thing = things[number] = Thing(number)
        if not thing.same(things): raise AssertionError
    return time.perf_counter() - began
print(int(min(work() for _ in range(25)) * 1e6), sys.version.split()[0], sys.executable)
'

# The interpreter for a new environment: $PYTHON if set, else the fastest of those that are here and new enough. Builds
# of the same version differ by a tenth and more, by what the compiler was asked to do.
find_python() {
    local found
    found=$(
        for candidate in ${PYTHON:-$(type -ap python3 python3.14 python3.13 python3.12 python3.11 | sort -u)}; do
            "$candidate" -c "$PROBE" 2>/dev/null || true
        done | sort -n | head -n 1
    )
    [ -n "$found" ] || die "Python 3.11 or newer is needed, with its venv module, and ${PYTHON:-python3} is not that." \
        "Install it (on Debian: apt-get install python3-venv), or set PYTHON to its path."
    printf '%s\n' "${found#* * }"
}

# A virtual environment holds its own path, so one that was made elsewhere (a copied checkout) is made anew.
make_venv() {
    "$VENV/bin/python" -c '' 2>/dev/null && grep -qxF "$VENV" "$VENV/.made-for" 2>/dev/null && return
    local python
    python=$(find_python) || exit 1
    say "Making $VENV with $("$python" --version)"
    "$python" -m venv --clear "$VENV" >&2 ||
        die "$python cannot make a virtual environment (on Debian: apt-get install python3-venv)."
    printf '%s\n' "$VENV" >"$VENV/.made-for"
}

# uv installs in seconds what takes pip a minute; pip is there where uv cannot be had.
install_into_venv() {
    local python=$VENV/bin/python
    if [ -x "$VENV/bin/uv" ] || "$python" -m pip install --quiet --disable-pip-version-check uv 2>/dev/null; then
        "$VENV/bin/uv" pip install --quiet --python "$python" "$@" >&2 && return
        say "uv could not install; trying pip"
    fi
    "$python" -m pip install --quiet --disable-pip-version-check "$@" >&2
}

# ensure_venv EXTRAS: the environment with the project and these extras (comma-separated), installed again only
# when pyproject.toml is not the one that was installed last. One at a time, so that parallel runs do not collide.
ensure_venv() {
    local extras=$1 stamp=$VENV/.installed-${1//,/-}
    if command -v flock >/dev/null; then
        exec 9<"$ROOT/scripts/lib.sh"
        flock 9
    fi
    make_venv
    if ! cmp -s "$ROOT/pyproject.toml" "$stamp"; then
        say "Installing gatehouse[$extras] into $VENV"
        install_into_venv --editable "$ROOT[$extras]" || die "the installation failed; see above."
        cp "$ROOT/pyproject.toml" "$stamp"
    fi
    if command -v flock >/dev/null; then
        exec 9>&-
    fi
}
