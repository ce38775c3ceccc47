//! `certctl owners` and `certctl teams`.

use super::{
    CliError, Global,
    client::Client,
    documents::{self, Kind},
    output,
};
use crate::{
    api::shapes::{OwnerShape, OwnerWish, TeamShape, TeamWish},
    config::Environment,
    id::Id,
};
use clap::Subcommand;

/// List, show, make, edit and delete owners: who answers for certificates.
#[derive(Debug, Subcommand)]
pub enum Owners {
    /// List owners
    List,
    /// Show an owner
    Show {
        /// The owner's id
        owner: Id,
    },
    /// Make an owner
    Create {
        /// Its id; made when absent
        #[arg(long)]
        id: Option<Id>,
        /// Its name
        #[arg(long)]
        name: String,
        /// Where to write to
        #[arg(long)]
        email: Option<String>,
        /// The id of its team
        #[arg(long, value_name = "ID")]
        team: Option<String>,
    },
    /// Edit an owner; what no flag names stays as it is
    Edit {
        /// The owner's id
        owner: Id,
        /// Its name
        #[arg(long)]
        name: Option<String>,
        /// Where to write to
        #[arg(long)]
        email: Option<String>,
        /// The id of its team; empty: none
        #[arg(long, value_name = "ID")]
        team: Option<String>,
    },
    /// Delete an owner of no certificate
    Delete {
        /// The owner's id
        owner: Id,
    },
}

/// List, show, make, edit and delete teams.
#[derive(Debug, Subcommand)]
pub enum Teams {
    /// List teams
    List,
    /// Show a team
    Show {
        /// The team's id
        team: Id,
    },
    /// Make a team
    Create {
        /// Its id; made when absent
        #[arg(long)]
        id: Option<Id>,
        /// Its name
        #[arg(long)]
        name: String,
        /// What it does
        #[arg(long)]
        description: Option<String>,
    },
    /// Edit a team; what no flag names stays as it is
    Edit {
        /// The team's id
        team: Id,
        /// Its name
        #[arg(long)]
        name: Option<String>,
        /// What it does
        #[arg(long)]
        description: Option<String>,
    },
    /// Delete a team without owners and certificates
    Delete {
        /// The team's id
        team: Id,
    },
}

struct OfOwner;

impl Kind for OfOwner {
    type Shape = OwnerShape;
    const PATH: &'static str = "/owners";
    const MANY: &'static str = "owners";
    const HEADER: &'static [&'static str] = &["ID", "NAME", "EMAIL", "TEAM"];

    fn row(o: &OwnerShape) -> Vec<String> {
        vec![
            o.id.clone(),
            o.name.clone(),
            o.email.clone(),
            o.team_id.clone(),
        ]
    }

    fn facts(o: &OwnerShape) -> Vec<(&'static str, String)> {
        vec![
            ("owner", o.id.clone()),
            ("name", o.name.clone()),
            ("email", o.email.clone()),
            ("team", o.team_id.clone()),
            ("edited", output::moment(Some(&o.updated_at))),
        ]
    }
}

struct OfTeam;

impl Kind for OfTeam {
    type Shape = TeamShape;
    const PATH: &'static str = "/teams";
    const MANY: &'static str = "teams";
    const HEADER: &'static [&'static str] = &["ID", "NAME", "DESCRIPTION"];

    fn row(t: &TeamShape) -> Vec<String> {
        vec![t.id.clone(), t.name.clone(), t.description.clone()]
    }

    fn facts(t: &TeamShape) -> Vec<(&'static str, String)> {
        vec![
            ("team", t.id.clone()),
            ("name", t.name.clone()),
            ("description", t.description.clone()),
            ("edited", output::moment(Some(&t.updated_at))),
        ]
    }
}

/// Runs it.
pub async fn run(command: Owners, global: &Global, env: &Environment) -> Result<(), CliError> {
    let client = Client::new(global, env)?;
    let output = global.output;
    match command {
        Owners::List => documents::list::<OfOwner>(&client, output).await,
        Owners::Show { owner } => documents::show::<OfOwner>(&client, &owner, output).await,
        Owners::Create {
            id,
            name,
            email,
            team,
        } => {
            let wish = OwnerWish {
                id: id.map(|id| id.to_string()),
                name: Some(name),
                email,
                team_id: team,
            };
            documents::create::<OfOwner>(&client, &wish, output).await
        }
        Owners::Edit {
            owner,
            name,
            email,
            team,
        } => {
            let wish = OwnerWish {
                id: None,
                name,
                email,
                team_id: team,
            };
            documents::edit::<OfOwner>(&client, &owner, &wish, output).await
        }
        Owners::Delete { owner } => documents::delete::<OfOwner>(&client, &owner, output).await,
    }
}

/// Runs `certctl teams`.
pub async fn teams(command: Teams, global: &Global, env: &Environment) -> Result<(), CliError> {
    let client = Client::new(global, env)?;
    let output = global.output;
    match command {
        Teams::List => documents::list::<OfTeam>(&client, output).await,
        Teams::Show { team } => documents::show::<OfTeam>(&client, &team, output).await,
        Teams::Create {
            id,
            name,
            description,
        } => {
            let wish = TeamWish {
                id: id.map(|id| id.to_string()),
                name: Some(name),
                description,
            };
            documents::create::<OfTeam>(&client, &wish, output).await
        }
        Teams::Edit {
            team,
            name,
            description,
        } => {
            let wish = TeamWish {
                id: None,
                name,
                description,
            };
            documents::edit::<OfTeam>(&client, &team, &wish, output).await
        }
        Teams::Delete { team } => documents::delete::<OfTeam>(&client, &team, output).await,
    }
}
