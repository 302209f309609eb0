# Sourced by the scripts beside it: find_python prints a Python >= 3.10, or says how to get one.
# $PYTHON, where set, is the one to take.

find_python() {
    for candidate in "${PYTHON:-python3}" python3.14 python3.13 python3.12 python3.11 python3.10; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return 0
        fi
        if [ -n "${PYTHON:-}" ]; then
            echo "PYTHON=$PYTHON is no Python 3.10 or newer that runs; set it to one, or unset it." >&2
            return 2
        fi
    done
    echo "No Python 3.10 or newer was found; install one (Debian, Ubuntu: apt install python3 python3-venv;" \
        "Fedora: dnf install python3; macOS: brew install python) and run again." >&2
    return 1
}
