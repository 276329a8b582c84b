#!/bin/sh
# The rooms of the house depend downwards only. Reads the #include lines of every source file and prints FILE:LINE for
# each that leads upwards; then proves on a planted house that each kind of wrong line is seen.
#   tests/rooms.sh [ROOT]
set -eu

# A room may include itself and the rooms before it in this order; kernels see base alone, and neither they nor base
# see the contract (<graft/...>). Plugins and the contract see the contract and the C standard library, nothing else.
order="base kernels graft config plugin formats formula text metric model run cli"
standard="assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdalign stdarg
stdatomic stdbool stddef stdint stdio stdlib stdnoreturn string tgmath threads time uchar wchar wctype"

check() (
    cd "$1"
    find core kernels plugins include -type f \( -name '*.[ch]' -o -name '*.inc' -o -name '*.cu' -o -name '*.cuh' \) |
        sort | xargs awk -v order="$order" -v standard="$standard" '
    BEGIN {
        for (i = split(order, names, " "); i > 0; i--) rank[names[i]] = i
        rank["graft"] = rank["kernels"]                 # beside each other: neither sees the other
        for (i = split(standard, names, /[ \n]+/); i > 0; i--) libc[names[i] ".h"] = 1
    }
    function bad(why) { printf "%s:%d: %s: %s\n", FILENAME, FNR, $0, why; found = 1 }
    FNR == 1 {
        split(FILENAME, part, "/")
        room = part[1] == "core" ? part[2] : part[1]
        folder = FILENAME; sub(/[^\/]*$/, "", folder)
        if (room != "plugins" && room != "include" && !(room in rank)) { bad("room " room " has no place in tests/rooms.sh"); nextfile }
    }
    /^[ \t]*#[ \t]*include/ {
        path = $0; sub(/^[ \t]*#[ \t]*include[ \t]*/, "", path)
        quoted = path ~ /^"/
        if (path !~ /^["<]/) { bad("an include must name its file"); next }
        path = substr(path, 2); sub(/[">].*/, "", path)
        if (room == "plugins" || room == "include") {
            if (!(path in libc) && !(path ~ /^graft\// && (!quoted || room == "include")))
                bad("only <graft/...> and C standard headers may be used here")
            next
        }
        if (path ~ /(^|\/)\.\.(\/|$)/) { bad("write the path from the top: \"room/file.h\""); next }
        sub(/^core\//, "", path)
        if (path !~ /\//) next                          # a system header, or a neighbour of the same folder
        wanted = path; sub(/\/.*/, "", wanted)
        if (wanted in rank) {
            if (wanted != room && rank[wanted] >= rank[room]) bad(room " is not above " wanted)
        } else if (quoted && (getline line < (folder path)) < 0)
            bad(wanted " is no room")
        else
            close(folder path)
    }
    END { exit found }'
)

# plant FOLDER/FILE INCLUDE...: a file with these includes, one a line
plant() {
    mkdir -p "$house/$(dirname "$1")"
    file=$1
    shift
    for include; do echo "#include $include"; done >>"$house/$file"
}

prove() {
    house=$(mktemp -d)
    trap 'rm -rf "$house"' EXIT
    plant core/base/good.c '"base/error.h"' '"good.h"' '<stdio.h>' '<sys/stat.h>'
    plant core/run/good.c '"model/model.h"' '"kernels/kernels.h"' '<graft/graft.h>' '"core/base/log.h"' '"run/plan.h"'
    plant kernels/cpu/good.c '"base/team.h"' '"kernels/kernels.h"' '<immintrin.h>'
    plant plugins/lora/good.c '<graft/graft.h>' '<graft/lowrank.h>' '<math.h>'
    plant include/graft/graft.h '<stdint.h>'
    check "$house" || { echo "rooms: a correct house was refused"; exit 1; }
    plant core/base/bad.c '"base/error.h"' '"config/ini.h"' '"kernels/kernels.h"' '<graft/graft.h>'
    plant core/model/bad.c '<run/plan.h>' '"../run/plan.h"' '"core/cli/main.h"' '"nowhere/x.h"' 'HEADER'
    plant core/formula/deep/bad.h '"model/model.h"'
    plant core/attic/bad.c '"base/error.h"'
    plant kernels/ref/bad.c '"formula/formula.h"' '<graft/graft.h>'
    plant plugins/lora/bad.c '"base/error.h"' '<unistd.h>' '"graft/graft.h"' '"lora.h"'
    plant include/graft/lowrank.h '"base/dtype.h"'
    seen=$(check "$house" | cut -d: -f1,2 | tr '\n' ' ')
    want="core/attic/bad.c:1 core/base/bad.c:2 core/base/bad.c:3 core/base/bad.c:4 core/formula/deep/bad.h:1 \
core/model/bad.c:1 core/model/bad.c:2 core/model/bad.c:3 core/model/bad.c:4 core/model/bad.c:5 \
include/graft/lowrank.h:1 kernels/ref/bad.c:1 kernels/ref/bad.c:2 \
plugins/lora/bad.c:1 plugins/lora/bad.c:2 plugins/lora/bad.c:3 plugins/lora/bad.c:4 "
    [ "$seen" = "$want" ] || { printf 'rooms: planted lines\n  %s\nbut saw\n  %s\n' "$want" "$seen"; exit 1; }
}

prove
check "${1:-$(dirname "$0")/..}"
