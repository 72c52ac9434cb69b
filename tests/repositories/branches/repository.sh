# Makes refs that are easily confused: `main` is a suffix of `feature/main`.
git tag v1.0
git switch --quiet --create feature/main
echo feature/main > branch.txt
git commit --quiet --all --message "Say which branch this is"
git switch --quiet --create release/1.0 main
echo release/1.0 > branch.txt
git commit --quiet --all --message "Say which branch this is"
git tag --annotate --message "Release 1.0.1" v1.0.1
git tag both main
git branch both feature/main
git switch --quiet main
