//! What an agent keeps on its host's disk, and what must hold of it.

use certctl::{
    clock::Time,
    deploy::{Journal, Pair, Paths, Phase, Vault, VersionRef},
    id::Id,
    sys::{Files, TEMP_PREFIX},
};
use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

/// An agent's disk.
pub struct Kept<'a> {
    /// The agent's name.
    pub name: &'a str,
    pub files: Arc<dyn Files>,
    pub paths: Paths,
}

impl Kept<'_> {
    pub fn vault(&self) -> Vault {
        Vault::new(self.files.clone(), self.paths.clone())
    }

    /// A pair that is served is valid, and its key is in the agent's keeping.
    #[track_caller]
    pub fn good(&self, pair: &Pair, now: Time) {
        let version = pair.version();
        pair.valid_at(now)
            .unwrap_or_else(|e| panic!("{}: {version} is in place: {e}", self.name));
        self.has_key(&version.certificate, pair.chain().leaf().spki_sha256());
    }

    /// The private key whose public half has this hash is on the host.
    #[track_caller]
    pub fn has_key(&self, certificate: &Id, spki: &str) {
        let key = self.vault().key(certificate, spki).unwrap();
        let key = key.unwrap_or_else(|| panic!("{}: {certificate} has no key {spki}", self.name));
        assert_eq!(key.public_key().sha256(), spki);
    }

    /// Whatever a link leads to is whole, valid, and its key is on the host. How many links.
    #[track_caller]
    pub fn links(&self, now: Time) -> usize {
        let links = self.files.list(&self.paths.live).unwrap_or_default();
        let names = links.iter().map(|name| name.to_str().unwrap());
        let mut seen = 0;
        for name in names.filter(|name| !name.starts_with(TEMP_PREFIX)) {
            let certificate: Id = name.parse().unwrap();
            let to = self.files.read_link(&self.paths.link(&certificate));
            let to = to.unwrap().expect("a link");
            let serial = to.file_name().unwrap().to_str().unwrap().parse().unwrap();
            let version = VersionRef {
                certificate,
                serial,
            };
            self.good(&self.vault().load(&version).unwrap(), now);
            seen += 1;
        }
        seen
    }

    /// Every journal is closed; nothing is half written; reports are delivered; and the versions
    /// and keys are those that are served or would be gone back to, and no others. `there` is every
    /// path on the host.
    #[track_caller]
    pub fn tidy(&self, there: impl IntoIterator<Item = PathBuf>) {
        let (name, files) = (self.name, &*self.files);
        let (mut kept, mut backups) = (BTreeSet::new(), BTreeSet::new());
        for target in Journal::targets(files, &self.paths).unwrap() {
            let journal = Journal::load(files, &self.paths, &target).unwrap();
            let journal = journal.unwrap();
            assert_ne!(journal.phase, Phase::Begun, "{name}: {target} is undecided");
            let backup = journal.before.backup.map(|n| n.to_string());
            backups.extend(backup.map(|n| self.paths.backups(&target).join(n)));
            let numbers = files.list(&self.paths.backups(&target)).unwrap_or_default();
            let numbers = numbers
                .iter()
                .filter_map(|n| n.to_str()?.parse::<u32>().ok());
            if files
                .read_link(&self.paths.current(&target))
                .unwrap()
                .is_some()
            {
                // What stood there before anything of ours did.
                let first = numbers.min().map(|n| n.to_string());
                backups.extend(first.map(|n| self.paths.backups(&target).join(n)));
            }
            kept.extend(journal.versions());
        }
        let needed: BTreeSet<String> = kept
            .iter()
            .map(|version| self.vault().load(version).unwrap())
            .map(|pair| pair.chain().leaf().spki_sha256().to_owned())
            .collect();
        let mut keys = BTreeSet::new();
        for path in there {
            let shown = path.display();
            let file = path.file_name().unwrap().to_str().unwrap();
            assert!(
                !file.starts_with(TEMP_PREFIX),
                "{name}: a crash left {shown}"
            );
            let waits = ["pending", "outbox"].map(|dir| self.paths.state.join(dir));
            let waits = waits.iter().any(|dir| path.starts_with(dir));
            assert!(!(waits && file.ends_with(".json")), "{name}: {shown} stays");
            let kept_keys = path.starts_with(self.paths.state.join("keys"));
            if let Some(spki) = file.strip_suffix(".key").filter(|_| kept_keys) {
                keys.insert(spki.to_owned());
            }
            if file.ends_with(".pem") && path.starts_with(self.paths.state.join("backups")) {
                let of = backups.contains(path.parent().unwrap());
                assert!(of, "{name}: {shown} is nobody's backup");
            }
            let rehearsed = path.starts_with(self.paths.rehearsals().join(""));
            assert!(
                !rehearsed || path == self.paths.rehearsals(),
                "{name}: {shown} stays"
            );
            if file == "privkey.pem" && path.starts_with(self.paths.state.join("versions")) {
                let dir = path.parent().unwrap();
                let of = kept.iter().any(|v| self.paths.version(v) == dir);
                assert!(of, "{name}: {shown} is of no use");
            }
        }
        assert_eq!(keys, needed, "{name}: keys and what needs them");
    }
}
