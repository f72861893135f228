//! Tools that read the published file or the server: each Python block of docs/tools.md is run as it
//! is written there, as a script and as a cell of a notebook.
//!
//! `tests/run.sh` installs what they need, and names its directory in `SPYHOP_TEST_TOOLS`.

use crate::readers::versions;
use crate::rig::http::Server;
use crate::rig::{Forks, Geth, Spyhop, pass_without, process::listing};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs its last argument as a notebook of one cell, and prints what that printed.
const NOTEBOOK: &str = r#"
import nbclient, nbformat, sys
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(sys.argv[1])])
nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
for output in notebook.cells[0].outputs:
    if output.output_type == "stream" and output.name == "stdout":
        print(output.text, end="")
"#;

/// The Python blocks of docs/tools.md.
fn blocks() -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/tools.md");
    let page = std::fs::read_to_string(page).unwrap();
    let blocks = page.split("```python\n").skip(1);
    blocks.map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// What Python prints for some code. It runs in a directory of its own: no path is relative.
fn printed(python: &Path, elsewhere: &Path, arguments: &[&str]) -> String {
    let output =
        Command::new(python).current_dir(elsewhere).arg("-c").args(arguments).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {arguments:?}: {complaint}", python.display());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_python_line_of_the_documentation_reads_the_data() {
    let geth = Geth::start(Forks::OSAKA);
    geth.blocks(150, "");
    geth.finalize(120);
    let (data, elsewhere) = (geth.data("data"), geth.data("elsewhere"));
    let watch = Spyhop::watch(&geth.socket(), &data).args(&["--from", "0", "--once"]);
    watch.path("--published-path", &data).succeed();
    let before = listing(&data);
    let token = elsewhere.join("token");
    let command = Spyhop::new("serve").path("--data", &data).path("--token-file", &token);
    let server = Server::of(command.args(&["--http", "127.0.0.1:0"]));
    let token = std::fs::read_to_string(&token).unwrap();
    let here = |block: String| {
        let block = block.replace("/srv/spyhop", data.to_str().unwrap());
        let block = block.replace("127.0.0.1:8550", &server.address.to_string());
        block.replace("TOKEN", token.trim())
    };
    let blocks: Vec<_> = blocks().into_iter().map(here).collect();
    assert_eq!(blocks.len(), 4, "docs/tools.md");
    // The first needs nothing but DuckDB.
    for (version, directory) in versions() {
        let python = directory.join("python");
        assert!(printed(&python, &elsewhere, &[&blocks[0]]).contains("151"), "DuckDB {version}");
    }
    let Some(tools) = std::env::var_os("SPYHOP_TEST_TOOLS").map(PathBuf::from) else {
        return pass_without("a notebook, pandas and SQLAlchemy, for SPYHOP_TEST_TOOLS is not set");
    };
    let python = tools.join("python");
    for block in &blocks {
        let script = printed(&python, &elsewhere, &[block]);
        assert!(script.contains("151"), "{block}: {script}");
        assert_eq!(printed(&python, &elsewhere, &[NOTEBOOK, block]), script, "{block}");
    }
    assert_eq!(listing(&data), before, "readers change nothing");
}
