# Removes releases (names) and wheels (checksums). What is half removed is no release any more.
for name; do
    case $name in
    *T*) rm -f "$ROOT/releases/$name/.complete" && rm -rf "${ROOT:?}/releases/$name" ;;
    *) rm -rf "${ROOT:?}/shared/wheels/$name" ;;
    esac
done
