//! What a host allows its agent is written on the host, and no server changes it.

use super::support::*;
use certctl::{
    agent::protocol::{FailureClass, Outcome},
    deploy::{Needs, Policy},
    sys::Disk,
};
use serde_json::json;
use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::Arc,
};

fn writes(path: &Path) -> Needs<'_> {
    Needs {
        writes: vec![path],
        ..Needs::default()
    }
}

/// Why a policy refuses to have `path` written on `host`; empty when it does not.
fn refusal(host: &Host, policy: &Policy, path: impl AsRef<Path>) -> String {
    refused(host, policy, writes(path.as_ref()))
}

fn refused(host: &Host, policy: &Policy, needs: Needs<'_>) -> String {
    let allowed = policy.allows(&Disk, &host.paths, "NGINX", needs);
    allowed.map_or_else(|fault| fault.reason, |()| String::new())
}

fn root(host: &Host) -> &Path {
    host.paths.state.parent().unwrap()
}

/// A policy file in a directory of its own.
fn written(host: &Host, text: &str) -> PathBuf {
    let path = root(host).join("agent-policy.toml");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(root(host), Permissions::from_mode(0o700)).unwrap();
    path
}

fn fault(path: &Path) -> String {
    Policy::read(Some(path)).unwrap_err().to_string()
}

async fn failed(host: &Host, job: &str) -> String {
    match host.server.report(job, 1).await {
        Outcome::Failed {
            class: FailureClass::Operator,
            reason,
        } => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_type_that_the_policy_does_not_list_is_refused_and_nothing_is_touched() {
    let mut host = Host::new();
    let file = written(&host, "target_types = [\"Site\"]\n");
    host.policy = Arc::new(Policy::read(Some(&file)).unwrap());
    let agent = host.start().await;
    let v1 = host.version("cert-1", 0x0b01);
    let to_file = ("tgt-file", "File", json!({}));
    host.server
        .lease(deployment("job-1", "cert-1", &v1, to_file));
    let reason = failed(&host, "job-1").await;
    for part in ["type File", "target_types", file.to_str().unwrap()] {
        assert!(reason.contains(part), "{part} in {reason}");
    }
    assert_eq!(host.link("cert-1"), None);
    assert!(host.names("versions").is_empty());
    assert!(host.names("deploy").is_empty());

    let site = ("tgt-site", "Site", json!({ "listen": "127.0.0.1:0" }));
    host.server.lease(deployment("job-2", "cert-1", &v1, site));
    let outcome = host.server.report("job-2", 1).await;
    assert!(matches!(outcome, Outcome::Confirmed { .. }), "{outcome:?}");
    agent.stop().await;

    // A site that is no longer allowed is not served after a restart.
    let file = written(&host, "target_types = [\"File\"]\n");
    host.policy = Arc::new(Policy::read(Some(&file)).unwrap());
    let agent = host.start().await;
    use certctl::deploy::Sites;
    assert_eq!(agent.sites.site(&id("tgt-site")), None);
    agent.stop().await;
}

#[test]
fn without_a_file_places_of_the_system_and_of_the_agent_are_refused() {
    let host = Host::new();
    let policy = Policy::default();
    for path in [
        "/etc/passwd",
        "/etc/shadow",
        "/etc/group",
        "/etc/sudoers",
        "/etc/sudoers.d/x",
        "/etc/ssh/sshd_config",
        "/etc/systemd/system/x.service",
        "/etc/cron.d/x",
        "/etc/crontab",
        "/etc/ld.so.preload",
        "/etc/pam.d/sshd",
        "/etc/profile.d/x.sh",
        "/etc/certctl/agent-policy.toml",
        "/root/.ssh/authorized_keys",
        "/home/u/.bashrc",
        "/boot/x",
        "/proc/sysrq-trigger",
        "/sys/x",
        "/dev/sda",
        "/usr/bin/x",
        "/usr/local/sbin/x",
    ] {
        let reason = refusal(&host, &policy, path);
        assert!(reason.starts_with(path), "{path}: {reason}");
        assert!(reason.contains("never written"), "{path}: {reason}");
    }
    for path in [
        "/etc/nginx/tls/x.pem",
        "/etc/ssl/private/x.key",
        "/srv/../srv2",
    ] {
        let climbs = path.contains("..");
        assert_eq!(refusal(&host, &policy, path).is_empty(), !climbs, "{path}");
    }
    let own = host.state("identity/agent.json");
    assert!(refusal(&host, &policy, &own).contains("the agent's own"));
    let link = host.paths.live.join("site.pem");
    assert_eq!(refusal(&host, &policy, link), "");
    let reason = refusal(&host, &policy, "relative.pem");
    assert!(reason.contains("absolute"), "{reason}");

    let reload = ["/bin/true".to_owned()];
    let needs = Needs {
        commands: vec![&reload],
        ..Needs::default()
    };
    let reason = refused(&host, &policy, needs);
    assert!(reason.contains("no policy"), "{reason}");
    assert!(reason.contains("`commands`"), "{reason}");
}

#[test]
fn paths_hold_by_whole_names_and_by_where_links_lead() {
    let host = Host::new();
    let root = root(&host);
    let (tls, other) = (root.join("tls"), root.join("other"));
    for dir in [&tls, &other, &root.join("tls2")] {
        fs::create_dir(dir).unwrap();
    }
    let policy = Policy {
        paths: Some(vec![tls.clone()]),
        file: Some("/policy".into()),
        ..Policy::default()
    };
    assert_eq!(refusal(&host, &policy, tls.join("a.pem")), "");
    assert_eq!(refusal(&host, &policy, tls.join("not/there/yet.pem")), "");
    let reason = refusal(&host, &policy, root.join("tls2/a.pem"));
    assert!(reason.contains("`paths` in /policy"), "{reason}");
    let reason = refusal(&host, &policy, tls.join("../other/a.pem"));
    assert!(reason.contains("`..`"), "{reason}");

    symlink(&other, tls.join("out")).unwrap();
    let reason = refusal(&host, &policy, tls.join("out/a.pem"));
    assert!(reason.contains("tls/out/a.pem (which is "), "{reason}");
    symlink("/etc", tls.join("etc")).unwrap();
    let reason = refusal(&host, &policy, tls.join("etc/passwd"));
    assert!(reason.contains("(which is /etc/passwd)"), "{reason}");
    symlink("circle", tls.join("circle")).unwrap();
    let reason = refusal(&host, &policy, tls.join("circle/a.pem"));
    assert!(reason.contains("too many links"), "{reason}");

    // The allowed directory may itself be a link: its owner made it.
    symlink(&other, root.join("named")).unwrap();
    let policy = Policy {
        paths: Some(vec![root.join("named")]),
        ..policy
    };
    assert_eq!(refusal(&host, &policy, root.join("named/a.pem")), "");
    assert_ne!(refusal(&host, &policy, tls.join("a.pem")), "");
}

#[test]
fn commands_are_allowed_word_for_word_and_nginx_by_name() {
    let host = Host::new();
    let (nginx, conf) = (root(&host).join("nginx"), root(&host).join("nginx.conf"));
    for path in [&nginx, &conf] {
        fs::write(path, "").unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
    let text = format!(
        "commands = [[\"/bin/systemctl\", \"reload\", \"nginx\"]]\nbinaries = [{nginx:?}]\n"
    );
    let policy = Policy::parse(&text).unwrap();
    let command = |words: &str| -> Vec<String> { words.split(' ').map(Into::into).collect() };
    for (words, allowed) in [
        ("/bin/systemctl reload nginx", true),
        ("/bin/systemctl reload", false),
        ("/bin/systemctl reload nginx x", false),
        ("/bin/sh reload nginx", false),
    ] {
        let argv = command(words);
        let needs = Needs {
            commands: vec![&argv],
            ..Needs::default()
        };
        assert_eq!(
            refused(&host, &policy, needs).is_empty(),
            allowed,
            "{words}"
        );
    }
    let runs = |binary, config| Needs {
        binaries: vec![binary],
        configs: vec![config],
        ..Needs::default()
    };
    let reason = refused(&host, &policy, runs(&nginx, &conf));
    assert!(reason.contains("`configs`"), "{reason}");
    let policy = Policy {
        configs: Some(vec![conf.clone()]),
        ..policy
    };
    assert_eq!(refused(&host, &policy, runs(&nginx, &conf)), "");
    let reason = refused(&host, &policy, runs(Path::new("/bin/sh"), &conf));
    assert!(reason.contains("`binaries`"), "{reason}");
    for (changed, kept) in [(&conf, &nginx), (&nginx, &conf)] {
        fs::set_permissions(changed, Permissions::from_mode(0o775)).unwrap();
        fs::set_permissions(kept, Permissions::from_mode(0o755)).unwrap();
        let reason = refused(&host, &policy, runs(&nginx, &conf));
        assert!(reason.contains("chmod go-w"), "{reason}");
    }
    let only = Policy {
        configs: Some(vec!["/etc/nginx/nginx.conf".into()]),
        ..policy
    };
    fs::set_permissions(&nginx, Permissions::from_mode(0o755)).unwrap();
    let reason = refused(&host, &only, runs(&nginx, &conf));
    assert!(reason.contains("`configs`"), "{reason}");
}

#[test]
fn all_that_is_wrong_with_a_policy_is_told_at_once() {
    let faults = Policy::parse(
        "target_types = [\"Nginx\"]\npaths = [\"tls\", 5]\ncommands = [\"reload\"]\n\
         binaries = [\"/usr/sbin/../bin/sh\"]\ncomands = []\n",
    )
    .unwrap_err();
    let faults = faults.join("\n");
    for part in [
        "target_types: \"Nginx\" is no type of target: File, NGINX, Site are",
        "paths: a list of absolute paths",
        "commands: a list of commands",
        "binaries: \"/usr/sbin/../bin/sh\" is not an absolute path",
        "comands: there is no such key",
    ] {
        assert!(faults.contains(part), "{part} in {faults}");
    }
    for garbage in ["target_types = [", "\u{0}", "paths = [\"/\"]", "paths = 1"] {
        assert!(Policy::parse(garbage).is_err(), "{garbage:?}");
    }
    assert_eq!(Policy::parse("").unwrap(), Policy::default());
}

#[test]
fn a_policy_that_others_can_change_does_not_count() {
    let host = Host::new();
    let path = written(&host, "paths = [\"/srv/tls\"]\n");
    let policy = Policy::read(Some(&path)).unwrap();
    assert_eq!(policy.paths, Some(vec!["/srv/tls".into()]));
    assert_eq!(policy.file.as_deref(), Some(&*path));
    for mode in [0o664, 0o646] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let fault = fault(&path);
        assert!(fault.contains("chmod go-w"), "{mode:o}: {fault}");
        assert!(fault.contains(path.to_str().unwrap()), "{fault}");
    }
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(root(&host), Permissions::from_mode(0o777)).unwrap();
    assert!(fault(&path).contains("chmod go-w"));
    // By way of a link out of a place of our own, too.
    let safe = tempfile::tempdir().unwrap();
    let link = safe.path().join("policy.toml");
    symlink(&path, &link).unwrap();
    assert!(fault(&link).contains("chmod go-w"));
    fs::set_permissions(root(&host), Permissions::from_mode(0o700)).unwrap();
    assert!(Policy::read(Some(&link)).is_ok());
    if certctl::sys::own_user() == 0 {
        std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
        assert!(fault(&path).contains("chown root"));
    }
    assert!(fault(&host.state("none")).contains("cannot read"));
    assert!(fault(root(&host)).contains("not a regular file"));
    fs::remove_file(&path).unwrap();
    fs::write(&path, vec![b'#'; 70_000]).unwrap();
    assert!(fault(&path).contains("longer than"));
}
