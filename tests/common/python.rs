//! A Python with a package of PyPI: clients and readers that are not ours.

use std::path::PathBuf;
use std::process::Command;

/// The interpreter of an environment with `package`, whose module is `module`, fetched once; `None`,
/// with the reason said, where it cannot be.
pub fn with(package: &str, module: &str) -> Option<PathBuf> {
    let venv = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("python-{package}"));
    let python = venv.join("bin/python");
    let works = || {
        let import = Command::new(&python).args(["-c", &format!("import {module}")]).output();
        import.is_ok_and(|output| output.status.success())
    };
    if works() {
        return Some(python);
    }
    let steps: [(&str, &[&str]); 2] = [
        ("python3", &["-m", "venv", venv.to_str()?]),
        (python.to_str()?, &["-m", "pip", "install", "--quiet", package]),
    ];
    for (program, arguments) in steps {
        let output = Command::new(program).args(arguments).output();
        if !output.as_ref().is_ok_and(|output| output.status.success()) {
            eprintln!("SKIPPED: no Python with {package}, {program} {arguments:?}: {output:?}");
            return None;
        }
    }
    works().then_some(python)
}
