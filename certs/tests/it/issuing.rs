//! Issuing into a folder again and again.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use certs::{
    Leaf,
    issue::{issue, renew_authority},
};

fn mode(file: &Path) -> u32 {
    fs::metadata(file).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_is_good_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let first = issue(dir.path(), &Leaf::new("east")).unwrap();
    assert!(first.is_new);
    assert_eq!(
        (mode(&first.key), mode(&dir.path().join("ca.key"))),
        (0o600, 0o600)
    );
    let kept = fs::read(&first.certificate).unwrap();
    assert!(!issue(dir.path(), &Leaf::new("east")).unwrap().is_new);
    assert_eq!(fs::read(&first.certificate).unwrap(), kept);
    // A name that it is not for, another authority, a broken key: each makes a new one.
    assert!(
        issue(dir.path(), &Leaf::new("east").hosts(["db.example"]))
            .unwrap()
            .is_new
    );
    assert!(
        !issue(dir.path(), &Leaf::new("east").hosts(["db.example"]))
            .unwrap()
            .is_new
    );
    renew_authority(dir.path()).unwrap();
    assert!(issue(dir.path(), &Leaf::new("east")).unwrap().is_new);
    fs::write(&first.key, "").unwrap();
    assert!(issue(dir.path(), &Leaf::new("east")).unwrap().is_new);
}

#[test]
fn many_at_once_end_with_one_authority() {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for n in 0..4 {
            let dir = dir.path();
            scope.spawn(move || issue(dir, &Leaf::new(format!("c{n}"))).unwrap());
        }
    });
    for n in 0..4 {
        assert!(
            !issue(dir.path(), &Leaf::new(format!("c{n}")))
                .unwrap()
                .is_new
        );
    }
}

#[test]
fn a_half_authority_and_an_odd_name_are_told() {
    let dir = tempfile::tempdir().unwrap();
    issue(dir.path(), &Leaf::new("east")).unwrap();
    fs::remove_file(dir.path().join("ca.key")).unwrap();
    let error = issue(dir.path(), &Leaf::new("east"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("ca.key: is missing"), "{error}");
    for name in ["", "../x", "ca", ".hidden"] {
        let error = issue(dir.path(), &Leaf::new(name)).unwrap_err().to_string();
        assert!(error.contains("cannot be a file's name"), "{error}");
    }
}
