//! `/owners` and `/teams`: what is read and what is answered.

use super::Edits;
use crate::{
    domain::{Fault, Owner, Team},
    id::Id,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An owner to make, or what is to change of one: what is absent stays as it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct OwnerWish {
    /// Its id, when it is made; made when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where to write to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The team it belongs to; empty: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team_id: Option<String>,
}

impl Edits for OwnerWish {
    type Resource = OwnerShape;
}

impl OwnerWish {
    /// The owner as it is wished for.
    ///
    /// # Errors
    /// The field that cannot be taken.
    pub fn onto(&self, mut owner: Owner) -> Result<Owner, Fault> {
        if let Some(name) = &self.name {
            owner.name.clone_from(name);
        }
        if let Some(email) = &self.email {
            owner.email.clone_from(email);
        }
        match self.team_id.as_deref() {
            Some("") => owner.team_id = None,
            Some(id) => {
                let id = id.parse::<Id>();
                let id = id.map_err(|e| Fault::new("team_id", e.to_string()))?;
                owner.team_id = Some(id);
            }
            None => {}
        }
        Ok(owner)
    }
}

/// An owner.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Owner)]
pub struct OwnerShape {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Where to write to; may be empty.
    pub email: String,
    /// The team it belongs to; empty: none.
    pub team_id: String,
    /// When it was made.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it was last edited.
    #[schema(format = DateTime)]
    pub updated_at: String,
}

impl From<&Owner> for OwnerShape {
    fn from(owner: &Owner) -> Self {
        let team = owner.team_id.as_ref();
        Self {
            id: owner.id.to_string(),
            name: owner.name.clone(),
            email: owner.email.clone(),
            team_id: team.map(ToString::to_string).unwrap_or_default(),
            created_at: owner.created_at.to_string(),
            updated_at: owner.updated_at.to_string(),
        }
    }
}

/// A team to make, or what is to change of one: what is absent stays as it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct TeamWish {
    /// Its id, when it is made; made when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

impl Edits for TeamWish {
    type Resource = TeamShape;
}

impl TeamWish {
    /// The team as it is wished for.
    ///
    /// # Errors
    /// None; all shapes answer alike.
    pub fn onto(&self, mut team: Team) -> Result<Team, Fault> {
        if let Some(name) = &self.name {
            team.name.clone_from(name);
        }
        if let Some(description) = &self.description {
            team.description.clone_from(description);
        }
        Ok(team)
    }
}

/// A team.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Team)]
pub struct TeamShape {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// When it was made.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it was last edited.
    #[schema(format = DateTime)]
    pub updated_at: String,
}

impl From<&Team> for TeamShape {
    fn from(team: &Team) -> Self {
        Self {
            id: team.id.to_string(),
            name: team.name.clone(),
            description: team.description.clone(),
            created_at: team.created_at.to_string(),
            updated_at: team.updated_at.to_string(),
        }
    }
}
