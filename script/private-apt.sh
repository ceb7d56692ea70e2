# private_apt WORK SUITE [deb-src]: makes `apt`, an apt-get with the package lists of that suite (and
# those of sources) in the folder WORK. It touches nothing of the system and installs nothing: its
# package status is empty. The mirror is the one this machine uses.
private_apt() {
    local work=$1 suite=$2 mirror keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || { echo "no apt-get here" >&2; return 1; }
    mirror=$({ cat /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list 2>/dev/null || true; } |
        sed -nE 's/^URIs: *([^ ]+debian\/?)( .*)?$/\1/p; s/^deb (\[[^]]*\] )?([^ ]+debian\/?) .*/\2/p' | grep -v security | head -n1)
    [ -n "$mirror" ] || { echo "no Debian mirror in this machine's apt sources" >&2; return 1; }
    [ -r "$keyring" ] || { echo "no $keyring to check packages with" >&2; return 1; }
    mkdir -p "$work"/{lists/partial,cache/archives/partial}
    : >"$work/status"
    printf "%s [signed-by=$keyring] $mirror $suite main\n" deb "${@:3}" >"$work/sources.list"
    apt=(apt-get -qq -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o "Dir::State::Lists=$work/lists" -o "Dir::State::Status=$work/status" -o "Dir::Cache=$work/cache"
        -o Debug::NoLocking=1 -o APT::Sandbox::User=root -o APT::Install-Recommends=0)
    # A mirror that is kept as of some day has a release file past its date; its signature still counts.
    "${apt[@]}" update >/dev/null 2>&1 || {
        echo "trying again without the date check of the package list" >&2
        apt+=(-o Acquire::Check-Valid-Until=false)
        "${apt[@]}" update >&2
    }
}
