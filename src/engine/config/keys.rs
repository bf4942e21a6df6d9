//! The private keys of a configuration: where they are, never what they are.

use crate::{
    engine::{
        config::{check::Checker, file::PrivateKeyTable, key_command},
        error::chain,
        privilege::is_root,
    },
    sealed::keys::Keys,
    store::config::process_environment,
    sys::clock::SystemClock,
};
use std::{fs, io::Read, sync::Arc};

/// Largest file with a private key, in bytes.
const KEY_BYTES_MAX: u64 = 1 << 20;

impl Checker<'_> {
    /// Reads the private keys.
    pub(super) fn keys(&mut self, written: &[PrivateKeyTable]) -> Arc<Keys> {
        let mut keys = Keys::none();
        for table in written {
            let (at, id) = (table.id.span().start, table.id.get_ref());
            if keys.has(id) {
                self.mistake(at, format!("private key {id} is there twice; remove one"));
                continue;
            }
            let Some(pem) = self.pem(table) else { continue };
            if let Err(error) = keys.add(id, &pem) {
                self.mistake(at, error.to_string());
            }
        }
        Arc::new(keys)
    }

    fn pem(&mut self, table: &PrivateKeyTable) -> Option<String> {
        let id = table.id.get_ref();
        match (&table.file, &table.env, &table.command) {
            (Some(file), None, None) => {
                let path = file.get_ref();
                let mut pem = String::new();
                let read = fs::File::open(path)
                    .and_then(|file| file.take(KEY_BYTES_MAX).read_to_string(&mut pem));
                match read {
                    Ok(_) => Some(pem),
                    Err(error) => {
                        let what = format!(
                            "private key {id} cannot be read from {}: {error}; the engine's user \
                             must be able to read the file",
                            path.display()
                        );
                        self.mistake(file.span().start, what);
                        None
                    }
                }
            }
            (None, Some(name), None) => {
                let found = process_environment(name.get_ref());
                if found.is_none() {
                    let what = format!(
                        "private key {id} is not in the environment: {} is not set; set it, or \
                         write file = \"/path/of/the/key.pem\"",
                        name.get_ref()
                    );
                    self.mistake(name.span().start, what);
                }
                found
            }
            // Started as root the engine begins anew as its own user, who then asks.
            (None, None, Some(_)) if is_root() => None,
            (None, None, Some(command)) => {
                let asked = key_command::ask(command.get_ref(), &SystemClock::new());
                let fault = |error| {
                    let what = format!("private key {id} cannot be fetched: {}", chain(&error));
                    self.mistake(command.span().start, what);
                };
                asked.map_err(fault).ok()
            }
            (_, _, _) => {
                let what = format!(
                    "private key {id} needs one place: file = \"/path/of/the/key.pem\", env = \
                     \"NAME_OF_A_VARIABLE\", or command = [\"/path/of/a/program\", \"{id}\"]"
                );
                self.mistake(table.id.span().start, what);
                None
            }
        }
    }
}
