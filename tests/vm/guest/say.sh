# shellcheck shell=dash
# What the host reads from the console, one line for each check.

# ok NAME DETAIL...
ok() {
    local name=$1
    shift
    echo "vm: ok $name: $*"
}

# bad NAME WHY...
bad() {
    local name=$1
    shift
    echo "vm: FAIL $name: $*"
}

# Prints the end of a log, marked, so that a failure can be understood from the console alone.
last_words() {
    tail -n 12 "$1" 2>/dev/null | sed 's/^/vm: | /'
}
