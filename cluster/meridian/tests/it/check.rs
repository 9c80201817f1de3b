//! `server --check`: a good file passes, a misspelt key is answered with the nearest one.

use crate::process::run;

const GOOD: &str = r#"
persistence:
  numHistoryShards: 8
  defaultStore: default
  datastores:
    default:
      sql: { pluginName: sqlite, databaseName: x.db }
services:
  frontend:
    rpc: { grpcPort: 7233, membershipPort: 6933, bindOnIP: 127.0.0.1 }
clusterMetadata:
  currentClusterName: west
  clusterInformation:
    west: { enabled: true, initialFailoverVersion: 1, rpcAddress: "127.0.0.1:7233" }
"#;

#[tokio::test]
async fn configurations_are_checked_without_starting() {
    let dir = tempfile::tempdir().expect("folder");
    let path = dir.path().join("config.yaml");
    let file = path.to_string_lossy().into_owned();
    let check = async |text: &str| {
        std::fs::write(&path, text).expect("write");
        run(&["server", "--config", &file, "--check"]).await
    };

    let (good, output, errors) = check(GOOD).await;
    assert!(good, "{errors}");
    assert!(output.contains("cluster west with 8 shards"), "{output}");

    for (right, wrong) in [
        ("numHistoryShards", "numHistoryShard"),
        ("grpcPort", "grpcport"),
        ("clusterMetadata", "clusterMetaData"),
        ("pluginName", "plugin"),
    ] {
        let (good, _, errors) = check(&GOOD.replace(right, wrong)).await;
        assert!(!good, "{wrong} is accepted");
        let hint = format!("unknown key `{wrong}`; did you mean `{right}`?");
        assert!(errors.contains(&hint), "{errors}");
    }

    let (good, _, errors) = check(&GOOD.replace("frontend:", "frontent:")).await;
    assert!(!good && errors.contains("frontent"), "{errors}");
    let missing = run(&["server", "--config", "/nowhere/at.yaml", "--check"]).await;
    assert!(
        !missing.0 && missing.2.contains("/nowhere/at.yaml"),
        "{}",
        missing.2
    );
}
