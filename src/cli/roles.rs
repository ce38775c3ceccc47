//! `certctl roles`.

use super::{CliError, Global, Output, client::Client, keys::segment, output};
use crate::{
    api::shapes::{
        PermissionWish, PermissionsShape, RoleDetailShape, RolePermissionShape, RoleShape,
        RoleWish, RolesShape,
    },
    config::Environment,
    id::Id,
};
use clap::{Args, Subcommand};

/// List roles and permissions; make, edit and delete roles.
#[derive(Debug, Subcommand)]
pub enum Roles {
    /// List roles: the built-in ones and those made here
    List,
    /// Show a role and what it holds
    Show {
        /// The role's id or name
        role: String,
    },
    /// List all permissions
    Permissions,
    /// Make a role
    Create {
        /// Its name
        name: String,
        /// What it is for
        #[arg(long, default_value = "")]
        description: String,
        /// A permission, as cert.read or issuer.read@issuer:iss-local; may be given more than once
        #[arg(long = "permission", value_name = "PERMISSION", value_parser = permission)]
        permissions: Vec<PermissionArg>,
    },
    /// Edit a role that was made here; what is not given stays
    Edit(EditArgs),
    /// Delete a role that was made here and that no key is granted
    Delete {
        /// The role's id or name
        role: String,
    },
}

/// What is to become of a role.
#[derive(Debug, Args)]
pub struct EditArgs {
    /// The role's id or name
    role: String,
    /// Its new name
    #[arg(long)]
    name: Option<String>,
    /// What it is for
    #[arg(long)]
    description: Option<String>,
    /// A permission to give it, as cert.read or issuer.read@issuer:iss-local
    #[arg(long, value_name = "PERMISSION", value_parser = permission)]
    add: Vec<PermissionArg>,
    /// A permission to take from it
    #[arg(long, value_name = "PERMISSION", value_parser = permission)]
    remove: Vec<PermissionArg>,
}

/// A permission, and where it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PermissionArg {
    name: String,
    scope: Option<(String, String)>,
}

/// Reads `<permission>`, `<permission>@profile:<id>` or `<permission>@issuer:<id>`.
fn permission(text: &str) -> Result<PermissionArg, String> {
    const EXPECTED: &str =
        "a permission such as cert.read or issuer.read@issuer:iss-local is expected";
    let Some((name, scope)) = text.split_once('@') else {
        return Ok(PermissionArg {
            name: text.to_owned(),
            scope: None,
        });
    };
    let (kind, id) = scope.split_once(':').ok_or(EXPECTED)?;
    if !matches!(kind, "profile" | "issuer") {
        return Err(EXPECTED.into());
    }
    let id: Id = id.parse().map_err(|e| format!("{EXPECTED}: {e}"))?;
    Ok(PermissionArg {
        name: name.to_owned(),
        scope: Some((kind.to_owned(), id.to_string())),
    })
}

impl PermissionArg {
    fn of(shape: &RolePermissionShape) -> Self {
        let scope = shape
            .scope_id
            .clone()
            .map(|id| (shape.scope_type.clone(), id));
        Self {
            name: shape.permission.clone(),
            scope,
        }
    }

    fn wish(&self) -> PermissionWish {
        let (scope_type, scope_id) = self.scope.clone().unzip();
        PermissionWish {
            permission: self.name.clone(),
            scope_type,
            scope_id,
        }
    }
}

/// Runs it.
pub async fn run(command: Roles, global: &Global, env: &Environment) -> Result<(), CliError> {
    let client = Client::new(global, env)?;
    let output = global.output;
    match command {
        Roles::List => {
            let list: RolesShape = client.get("/auth/roles").await?;
            if output == Output::Json {
                return output::json(&list.roles);
            }
            let rows = list.roles.iter().map(|role| {
                let kind = if role.built_in {
                    "built-in"
                } else {
                    "made here"
                };
                vec![
                    role.id.clone(),
                    role.name.clone(),
                    kind.into(),
                    role.description.clone(),
                ]
            });
            output::table(&["ID", "NAME", "KIND", "FOR"], rows);
            Ok(())
        }
        Roles::Show { role } => show(&detail(&client, &role).await?, output),
        Roles::Permissions => {
            let list: PermissionsShape = client.get("/auth/permissions").await?;
            if output == Output::Json {
                return output::json(&list.permissions);
            }
            let rows = list.permissions.iter();
            let rows = rows.map(|p| vec![p.name.clone(), p.namespace.clone()]);
            output::table(&["PERMISSION", "ON"], rows);
            Ok(())
        }
        Roles::Create {
            name,
            description,
            permissions,
        } => {
            let wish = RoleWish {
                id: Default::default(),
                name: Some(name),
                description: Some(description),
                permissions: Some(permissions.iter().map(PermissionArg::wish).collect()),
            };
            let made: RoleShape = client.post("/auth/roles", &wish).await?;
            show(&detail(&client, &made.id).await?, output)
        }
        Roles::Edit(args) => edit(&client, args, output).await,
        Roles::Delete { role } => {
            let gone: RoleDetailShape = detail(&client, &role).await?;
            client.delete(&path(&gone.role.id)).await?;
            match output {
                Output::Json => output::json(&gone),
                Output::Table => {
                    output::line(&format!("The role {} is gone.", gone.role.name));
                    Ok(())
                }
            }
        }
    }
}

/// All changes in one call: either all of them are made or none.
async fn edit(client: &Client, args: EditArgs, output: Output) -> Result<(), CliError> {
    let before = detail(client, &args.role).await?;
    let changes = !args.add.is_empty() || !args.remove.is_empty();
    let mut held: Vec<_> = before.permissions.iter().map(PermissionArg::of).collect();
    if let Some(missing) = args.remove.iter().find(|one| !held.contains(one)) {
        return Err(CliError::Failed(format!(
            "the role {} does not hold {} there: `certctl roles show {}` says what it holds",
            before.role.name, missing.name, before.role.id
        )));
    }
    held.retain(|one| !args.remove.contains(one));
    held.extend(args.add);
    let wish = RoleWish {
        id: Default::default(),
        name: args.name,
        description: args.description,
        permissions: changes.then(|| held.iter().map(PermissionArg::wish).collect()),
    };
    let id = &before.role.id;
    let _: RoleShape = client.put(&path(id), &wish).await?;
    show(&detail(client, id).await?, output)
}

async fn detail(client: &Client, role: &str) -> Result<RoleDetailShape, CliError> {
    client.get(&path(role)).await
}

fn path(role: &str) -> String {
    format!("/auth/roles/{}", segment(role))
}

fn show(detail: &RoleDetailShape, output: Output) -> Result<(), CliError> {
    if output == Output::Json {
        return output::json(detail);
    }
    let role = &detail.role;
    let kind = if role.built_in {
        "built-in"
    } else {
        "made here"
    };
    for (name, value) in [
        ("role", role.id.as_str()),
        ("name", &role.name),
        ("kind", kind),
        ("for", &role.description),
    ] {
        output::line(&format!("{name:<12} {value}"));
    }
    output::line("");
    let rows = detail.permissions.iter().map(|one| {
        let on = match &one.scope_id {
            None => "everything".to_owned(),
            Some(id) => format!("{} {id}", one.scope_type),
        };
        vec![one.permission.clone(), on]
    });
    output::table(&["PERMISSION", "ON"], rows);
    Ok(())
}
