//! A server, a store, the settings of a push, and restores by hand with the products' own programs.

use crate::{
    mysql_server::{Product, Server},
    server::with_table,
    support::{Place, command, give, run},
};
use btar::layout::stream::{
    chain::{Chain, chain},
    keys::{self, Role},
    manifest::Manifest,
    series::Series,
};
use sha1::{Digest, Sha1};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

pub(crate) struct World {
    pub(crate) place: Place,
    pub(crate) server: Server,
    store: PathBuf,
    restores: AtomicU32,
}

impl World {
    pub(crate) fn new(product: Product) -> Self {
        let place = Place::new();
        let server = with_table(product, &place.dir("one"), 16);
        let store = place.dir("store");
        place.dir("state");
        let world = Self { place, server, store, restores: AtomicU32::new(1) };
        world.settings("one.toml", &world.server.dir);
        world
    }

    /// Settings for a server in `dir`.
    pub(crate) fn settings(&self, name: &str, dir: &Path) {
        let product = self.server.product;
        self.place.dir("clones");
        let path = |name: &str| self.place.path().join(name).display().to_string();
        let mut text = format!(
            "store = \"file://{}\"\npath = \"orders\"\nstate_dir = \"{}\"\n[server]\nuser = \
             \"root\"\ndefaults_file = \"/dev/null\"\nsocket = \"{}\"\nclient = \"{}\"\n[base]\n\
             part_mib = 1\n",
            path("store"),
            path("state"),
            dir.join("s").display(),
            product.client().display(),
        );
        if product == Product::MySql {
            text += &format!("clone_dir = \"{}\"\n", path("clones"));
        }
        fs::write(self.place.path().join(name), text).unwrap();
    }

    /// The command `btar push …`.
    pub(crate) fn command(&self, settings: &str, args: &[&str]) -> Command {
        let mut push = command(env!("CARGO_BIN_EXE_btar"));
        push.arg("push").args(args).arg("--config").arg(self.place.path().join(settings));
        push.stdout(Stdio::piped()).stderr(Stdio::piped());
        push
    }

    /// Pushes, which must end with `code`; gives what was said.
    pub(crate) fn push(&self, args: &[&str], code: i32) -> String {
        self.push_of("one.toml", args, code)
    }

    pub(crate) fn push_of(&self, settings: &str, args: &[&str], code: i32) -> String {
        let out: Output = self.command(settings, args).output().unwrap();
        let text = crate::support::both(&out);
        assert_eq!(out.status.code(), Some(code), "push {args:?}: {text}");
        text
    }

    fn below(&self, key: &str) -> PathBuf {
        self.store.join("orders").join(key)
    }

    pub(crate) fn read(&self, key: &str) -> Vec<u8> {
        fs::read(self.below(key)).unwrap()
    }

    /// All objects with their sizes.
    pub(crate) fn listing(&self) -> BTreeMap<String, u64> {
        let (top, mut found) = (self.store.join("orders"), BTreeMap::new());
        let mut open = vec![top.clone()];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(&dir).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                } else {
                    let key = path.strip_prefix(&top).unwrap().to_str().unwrap().to_owned();
                    assert_ne!(keys::role(&key), Role::Other, "{key}");
                    found.insert(key, path.metadata().unwrap().len());
                }
            }
        }
        found
    }

    /// All series, the oldest first.
    pub(crate) fn series(&self) -> Vec<Series> {
        let listing = self.listing();
        let mut found: Vec<Series> = listing
            .keys()
            .filter_map(|key| match keys::role(key) {
                Role::Series { series } => Some(Series::read(&series, &self.read(key)).unwrap()),
                Role::Part { .. } | Role::Manifest { .. } | Role::Binlog(_) | Role::Other => None,
            })
            .collect();
        found.sort_by_key(|series| series.began_at);
        found
    }

    /// All base backups, the oldest first. Each must be whole.
    pub(crate) fn backups(&self) -> Vec<Manifest> {
        let listing = self.listing();
        let mut found = Vec::new();
        for key in listing.keys() {
            let Role::Manifest { label } = keys::role(key) else { continue };
            let manifest = Manifest::read(&self.read(key)).unwrap();
            assert_eq!(manifest.label, label);
            for ((key, _), part) in manifest.part_keys().zip(&manifest.parts) {
                let bytes = self.read(&key);
                assert_eq!(bytes.len() as u64, part.size_bytes, "{key}");
                assert_eq!(<[u8; 20]>::from(Sha1::digest(&bytes)), part.sha1, "{key}");
            }
            found.push(manifest);
        }
        found
    }

    /// The chain of a base backup, which must be restorable.
    pub(crate) fn chain(&self, manifest: &Manifest) -> Chain {
        let listing = self.listing();
        let listed = listing.iter().map(|(key, size)| (key.as_str(), *size));
        let chain = chain(listed, &self.series(), manifest);
        assert_eq!(chain.gap, None);
        assert!(chain.reaches_backup_end, "{manifest:?}");
        chain
    }

    /// A plain binary log of the store.
    pub(crate) fn plain(&self, key: &str) -> Vec<u8> {
        let bytes = self.read(key);
        let Role::Binlog(of_key) = keys::role(key) else { panic!("{key} is no binary log") };
        assert_eq!(btar::domain::hex::lower(&Sha1::digest(&bytes)), of_key.sha1, "{key}");
        zstd::decode_all(&bytes[..]).unwrap()
    }

    /// Restores a base backup and all of its chain, as the documents say, and gives what the table
    /// holds then.
    pub(crate) fn restored(&self, manifest: &Manifest) -> String {
        let number = self.restores.fetch_add(1, Ordering::Relaxed);
        let name = format!("restored-{number}");
        let dir = self.place.dir(&name);
        let data = self.place.dir(&format!("{name}/data"));
        let packed: Vec<u8> = manifest.part_keys().flat_map(|(key, _)| self.read(&key)).collect();
        let plain = zstd::decode_all(&packed[..]).unwrap();
        assert_eq!(plain.len() as u64, manifest.restored_bytes);
        let image = dir.join("image");
        fs::write(&image, plain).unwrap();
        let product = self.server.product;
        match product {
            Product::MariaDb => {
                let image = fs::File::open(&image).unwrap();
                run(command(product.program("mbstream"))
                    .arg("-x")
                    .arg("-C")
                    .arg(&data)
                    .stdin(image));
                let target = format!("--target-dir={}", data.display());
                run(command(product.program("mariadb-backup")).args(["--prepare", &target]));
            }
            Product::MySql => {
                run(command("tar").arg("-xf").arg(&image).arg("-C").arg(&data));
            }
        }
        let mut restored = Server::start(product, &dir, &["--server-id=99"]);
        self.replay(manifest, &dir, &restored);
        let contents = restored.contents();
        restored.stop();
        contents
    }

    fn replay(&self, manifest: &Manifest, dir: &Path, restored: &Server) {
        let product = self.server.product;
        let mut reader = command(product.log_reader());
        if let Some(offset) = manifest.log.start_offset {
            reader.arg(format!("--start-position={offset}"));
        } else {
            // The place is within what the manifest says.
            let told = restored
                .sql("SELECT binlog_file, binlog_position FROM performance_schema.clone_status");
            let (file, offset) = told.split_once('\t').unwrap();
            let file = Path::new(file).file_name().unwrap().to_str().unwrap();
            let (first, last) = (&manifest.log, &manifest.log_end);
            assert!(*first.name <= *file && *file <= *last.name, "{told}");
            assert!(file < last.name.as_str() || offset.parse::<u64>().unwrap() <= last.offset);
        }
        for binlog in self.chain(manifest).objects {
            // Of several series there are files of the same name.
            let name = format!("{}-{}", binlog.series, binlog.name);
            let file = dir.join(name);
            fs::write(&file, self.plain(&binlog.key)).unwrap();
            give(&file);
            reader.arg(file);
        }
        let statements = dir.join("statements");
        let out = reader.stdout(fs::File::create(&statements).unwrap()).output().unwrap();
        assert!(out.status.success(), "{}", crate::support::both(&out));
        run(restored.client().arg("--binary-mode").stdin(fs::File::open(&statements).unwrap()));
    }
}
