//! A push that dies at any point is gone on with, and several at once do no harm.

use crate::{mysql_server::Product, support::pause, world::World};
use btar::layout::stream::keys::{self, Role};
use std::{collections::BTreeSet, time::Duration};

#[test]
fn mariadb_killed_again_and_again() {
    killed(Product::MariaDb, 16, 4000);
}

#[test]
fn mysql_killed_again_and_again() {
    killed(Product::MySql, 12, 2500);
}

/// Kills pushes after up to so many milliseconds.
fn killed(product: Product, times: u32, base_millis: u64) {
    let world = World::new(product);
    world.server.fill();
    // Some parts, and a store that takes its time for each.
    let settings = world.place.path().join("one.toml");
    let text = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, format!("store_options = {{ bandwidth_mib = 4 }}\n{text}")).unwrap();
    let mut left = 0;
    let mut state = 0x5eed_u64;
    let mut random = |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for turn in 0..times {
        world.server.add(40);
        if random(2) == 0 {
            world.server.sql("FLUSH BINARY LOGS");
        }
        let (args, millis): (&[&str], _) =
            if turn % 2 == 0 { (&["base"], base_millis) } else { (&["binlogs", "--flush"], 250) };
        let mut push = world.command("one.toml", args).spawn().unwrap();
        pause(Duration::from_millis(random(millis)));
        // It may have ended by itself.
        let _ = push.kill();
        push.wait().unwrap();
        left += usize::from(is_left_half(&world));
        // Whatever looks like a backup is one, at every moment.
        for backup in world.backups() {
            world.chain(&backup);
        }
    }
    assert!(left > 0, "no base backup was killed between two parts");
    world.push(&["base"], 0);
    world.server.add(3);
    world.push(&["binlogs", "--flush"], 0);
    complete(&world);
    let backups = world.backups();
    let expected = world.server.contents();
    for backup in [backups.first().unwrap(), backups.last().unwrap()] {
        assert_eq!(world.restored(backup), expected, "{}", backup.label);
    }
}

#[test]
fn several_at_once_store_everything_once() {
    let world = World::new(Product::MariaDb);
    for _ in 0..10 {
        world.server.add(5);
        world.server.sql("FLUSH BINARY LOGS");
    }
    let calls: [&[&str]; 4] = [&["base"], &["binlogs"], &["base"], &["binlogs", "--flush"]];
    let pushes: Vec<_> =
        calls.map(|args| world.command("one.toml", args).spawn().unwrap()).into_iter().collect();
    let ended: Vec<_> = pushes.into_iter().map(|push| push.wait_with_output().unwrap()).collect();
    for (args, out) in calls.iter().zip(&ended) {
        let said = crate::support::both(out);
        let is_running = said.contains("another push is making a base backup");
        assert!(out.status.success() || args[0] == "base" && is_running, "{args:?}: {said}");
    }
    world.push(&["binlogs", "--flush"], 0);
    complete(&world);
    let backups = world.backups();
    assert_eq!(backups.len(), 1);
    assert_eq!(world.restored(&backups[0]), world.server.contents());
}

/// Whether there are parts of a base backup that is none.
fn is_left_half(world: &World) -> bool {
    let listing = world.listing();
    let parts = listing.keys().filter_map(|key| match keys::role(key) {
        Role::Part { label, .. } => Some(label),
        Role::Manifest { .. } | Role::Series { .. } | Role::Binlog(_) | Role::Other => None,
    });
    parts.into_iter().any(|label| !listing.contains_key(&keys::manifest(&label)))
}

/// Every closed binary log of the server since the first one is stored, each once and in one series,
/// and there are no parts of backups that are none.
fn complete(world: &World) {
    assert_eq!(world.series().len(), 1, "{:?}", world.series());
    let whole: BTreeSet<String> = world.backups().into_iter().map(|backup| backup.label).collect();
    let mut stored = Vec::new();
    for key in world.listing().keys() {
        match keys::role(key) {
            Role::Part { label, .. } => assert!(whole.contains(&label), "{key} is left"),
            Role::Binlog(binlog) => {
                let file = world.server.dir.join("log").join(&binlog.name);
                assert_eq!(world.plain(key), std::fs::read(file).unwrap(), "{key}");
                stored.push((binlog.sequence, binlog.name));
            }
            Role::Manifest { .. } | Role::Series { .. } | Role::Other => {}
        }
    }
    let mut closed = world.server.logs();
    closed.pop();
    let from = closed.len() - stored.len();
    let expected: Vec<_> = (1..).zip(closed.split_off(from)).collect();
    assert_eq!(stored, expected);
    let state = std::fs::read_to_string(world.place.path().join("state/base.lock")).unwrap();
    assert_eq!(state, "");
}
