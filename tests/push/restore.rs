//! What is pushed can be restored, and has exactly what the server had.

use crate::{mysql_server::Product, world::World};
use btar::domain::recovery::BaseTool;
use serde_json::Value;

#[test]
fn mariadb_is_restored_from_either_backup() {
    restored(Product::MariaDb, BaseTool::MariaDbBackup);
}

#[test]
fn mysql_is_restored_from_either_backup() {
    restored(Product::MySql, BaseTool::Clone);
}

fn restored(product: Product, tool: BaseTool) {
    let world = World::new(product);
    world.server.add(20);
    let said = world.push(&["binlogs", "--flush"], 0);
    assert!(said.contains("there is no base backup yet"), "{said}");
    world.push(&["base"], 0);
    world.server.add(30);
    world.push(&["binlogs"], 0);
    world.push(&["binlogs", "--flush"], 0);
    let idle = world.push(&["binlogs", "--flush"], 0);
    assert!(idle.contains("no new binary log") && !idle.contains("no base"), "{idle}");
    world.server.add(5);
    // A file without anything in it is one, too.
    world.server.sql("FLUSH BINARY LOGS; FLUSH BINARY LOGS");
    crate::support::pause(std::time::Duration::from_millis(1100));
    // While the server is used.
    let row = "INSERT INTO d.t (b) VALUES (HEX(RANDOM_BYTES(400))); DO SLEEP(0.005);";
    let script = world.place.path().join("script.sql");
    std::fs::write(&script, row.repeat(20_000)).unwrap();
    let script = std::fs::File::open(&script).unwrap();
    let mut user = world.server.client().stdin(script).spawn().unwrap();
    let said = world.push(&["base", "--json"], 0);
    assert!(user.try_wait().unwrap().is_none(), "the backup took longer than the writing");
    user.kill().unwrap();
    user.wait().unwrap();
    // Until the server has noticed, too.
    crate::support::wait_for("the writing to end", std::time::Duration::from_secs(30), || {
        let before = world.server.contents();
        crate::support::pause(std::time::Duration::from_millis(300));
        (world.server.contents() == before).then_some(())
    });
    let said: Value = serde_json::from_str(&said).unwrap();
    world.server.add(7);
    world.push(&["binlogs", "--flush"], 0);

    let backups = world.backups();
    let [first, second] = &backups[..] else { panic!("{backups:?}") };
    assert_eq!((first.tool, second.tool), (tool, tool));
    assert_eq!(said["label"], second.label.as_str());
    assert!(first.finished_at <= second.started_at);
    let expected = world.server.contents();
    let rows: u32 = expected.split('\t').next().unwrap().parse().unwrap();
    assert!(rows > 100, "{expected}");
    for backup in [first, second] {
        assert_eq!(world.restored(backup), expected, "{}", backup.label);
    }
    let series = world.series();
    assert!(series.len() == 1 && series[0].follows.is_none(), "{series:?}");
    // Object for object what the server has.
    let chain = world.chain(first);
    let closed = world.server.logs();
    let stored: Vec<&String> = chain.objects.iter().map(|found| &found.name).collect();
    let (_, closed) = closed.split_last().unwrap();
    assert_eq!(stored, closed.iter().skip(closed.len() - stored.len()).collect::<Vec<_>>());
    for binlog in &chain.objects {
        let file = world.server.dir.join("log").join(&binlog.name);
        assert_eq!(world.plain(&binlog.key), std::fs::read(file).unwrap(), "{}", binlog.name);
    }
}

#[test]
fn a_read_only_server_and_a_wrong_tool_push_nothing() {
    let world = World::new(Product::MariaDb);
    world.server.sql("SET GLOBAL read_only = 1");
    for what in ["base", "binlogs"] {
        let said = world.push(&[what], 0);
        assert!(said.contains("read-only"), "{said}");
    }
    world.server.sql("SET GLOBAL read_only = 0");
    let settings = world.place.path().join("one.toml");
    let text = std::fs::read_to_string(&settings).unwrap();
    for (from, to, expect) in [
        ("[base]", "[base]\ntool = \"clone\"", "no backups of MariaDB"),
        ("[base]", "[base]\nprogram = \"/bin/false\"", "/bin/false failed"),
        ("[base]", "[base]\narguments = [\"--no-such-argument\"]", "no-such-argument"),
        ("one/s\"", "one/no\"", "no"),
        ("part_mib", "parts", "unknown field"),
    ] {
        std::fs::write(&settings, text.replace(from, to)).unwrap();
        let said = world.push(&["base"], 1);
        assert!(said.contains(expect), "{said}");
        assert!(world.listing().is_empty(), "{to}: {:?}", world.listing());
    }
}
