//! The reference page of the settings, made from their table.

use super::{DEFAULT_FILE, settings::SETTINGS};
use std::fmt::Write;

/// The page, in Markdown.
pub fn page() -> String {
    let mut page = format!(
        "# Configuration\n\n\
         Made by `certctl config keys --markdown`.\n\n\
         A setting is taken from the first of these that gives it: a flag, a variable of the \
         environment, the configuration file, its default. The file is the one that `--config` or \
         `CERTCTL_CONFIG` names, else `{DEFAULT_FILE}` where there is one: TOML, a key for each \
         setting at the top level, such as `server_port = 8443`. An empty variable counts as not \
         set.\n\n\
         A secret may be given by a file instead: `<VARIABLE>_FILE`, or `<key>_file` in the \
         configuration file, names it; a line end at its end is no part of the value.\n\n\
         What is not a setting, and a value that cannot be, is refused before anything starts, all \
         of it at once, with exit code 78. `certctl config check` says so beforehand, `certctl \
         config show` says which value is in force and where it comes from. Variables that \
         Kubernetes sets for services (`CERTCTL_*_SERVICE_*`, `CERTCTL_*_PORT_*`, values that begin \
         with `tcp://`) are passed over.\n\n\
         All are read at the start; the files of `CERTCTL_AUTH_SECRET` and \
        `CERTCTL_API_KEYS_NAMED` again every 5 seconds, and what cannot be taken then changes \
        nothing and is told of in the log and by `certctl keys list`.\n\n\
         | Variable | Key | Kind | Default | Says |\n\
         |---|---|---|---|---|\n"
    );
    for setting in SETTINGS {
        let default = match setting.default {
            "" => String::new(),
            default => format!("`{default}`"),
        };
        let kind = if setting.secret {
            "secret"
        } else {
            setting.kind.as_str()
        };
        let (name, key, about) = (setting.name, setting.file_key(), setting.about);
        // Writing to a text cannot fail.
        let _ = writeln!(
            page,
            "| `{name}` | `{key}` | {kind} | {default} | {about} |"
        );
    }
    page
}
