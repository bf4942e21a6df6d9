//! The guide "Getting started with the engine", command for command.

use crate::support::{Place, both, free_port, program};
use std::{fs, path::Path, process::Command};

const GUIDE: &str = include_str!("../../docs/guides/getting-started-engine.md");

/// Blocks of commands in the guide, those of its main walk.
fn commands() -> Vec<&'static str> {
    let walk = GUIDE.split("## With a database of your own").next().unwrap();
    let blocks = walk.split("```sh\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap()).collect()
}

#[test]
fn the_walk_through_the_guide_ends_with_the_table_as_it_was() {
    let place = Place::new();
    let tour = place.path().join("tour");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // What `make install` does, with what was built for the tests and in a home of its own.
    let script = commands().concat().replace(
        "make install\n",
        "install -D -m 0755 \"$BUILT_BTAR\" \"$HOME/bin/btar\"\n\
         \"$ROOT/.ci/install-provider\" \"$BUILT_PROVIDER\" \"$HOME/.terraform.d/plugins\"\n",
    );
    assert!(script.contains("$BUILT_BTAR"), "the guide installs");
    // Ports and place of its own, as other tests run beside this one.
    let script = script
        .replace("/var/tmp/btar-tour", tour.to_str().unwrap())
        .replace("8787", &free_port().to_string())
        .replace("54320", &free_port().to_string());
    let script = format!("set -eu -o pipefail\n{CLEANUP}\n{script}\necho THE END\n");
    let file = place.path().join("tour.sh");
    fs::write(&file, script).unwrap();

    let mut path = vec![place.path().join("bin")];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
    let out = Command::new(program("bash", "bash"))
        .args(["-m".as_ref(), file.as_os_str()])
        .current_dir(place.path())
        .env("PATH", std::env::join_paths(path).unwrap())
        .env("HOME", place.path())
        .env("ROOT", root)
        .env("BUILT_BTAR", env!("CARGO_BIN_EXE_btar"))
        .env("BUILT_PROVIDER", env!("CARGO_BIN_EXE_terraform-provider-btar"))
        .env("CHECKPOINT_DISABLE", "1")
        .env_remove("TF_CLI_CONFIG_FILE")
        .output()
        .unwrap();
    let said = both(&out);
    assert!(out.status.success(), "{said}");
    for line in ["1500", "THE END"] {
        assert!(said.lines().any(|found| found.ends_with(line)), "no line {line} in\n{said}");
    }
    assert!(said.contains("No changes."), "{said}");
    assert!(!tour.exists(), "the guide tidies up");
}

/// Whatever a failure leaves running, as `kill` and `rm` at the end of the guide are not reached then.
const CLEANUP: &str = r#"
trap '
  code=$?
  if [ "$code" != 0 ] && [ -n "${TOUR:-}" ]; then
    cat "$TOUR"/log/engine.log >&2 || true
    for pid in $(cat "$TOUR"/primary/data/postmaster.pid "$TOUR"/engine/forks/*/*/data/postmaster.pid \
      2>/dev/null | grep -xE "[0-9]{2,}" ) $(jobs -p); do kill -QUIT "$pid" || true; done
  fi
  exit "$code"
' EXIT
"#;
