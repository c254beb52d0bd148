# Takes wheels as a tar on standard input: <sha256>/<name>.whl. What is there is whole and is what its name says.
umask 022
cd "$ROOT/shared/wheels"
rm -rf .incoming.*
incoming=$(mktemp -d .incoming.XXXXXX)
tar -x -C "$incoming"
sync -f .  # a power cut leaves no empty wheel under a checksum
for folder in "$incoming"/*; do
    sha=${folder##*/}
    (cd "$folder" && for wheel in *; do echo "$sha  $wheel"; done | sha256sum --check --quiet)
    [ -e "$sha" ] || mv -T "$folder" "$sha"
done
rm -rf "$incoming"
