//! What is served where, for `certctl certs`.

use super::{CliError, Output, client::Client, output};
use crate::{
    api::served::{PlaceShape, ServedShape},
    id::Id,
};

/// Has the agents look at what a certificate's places serve; fails where that is not its current
/// version.
pub async fn check(client: &Client, id: &Id, output: Output) -> Result<(), CliError> {
    let path = format!("/certificates/{id}/check");
    let served: ServedShape = client.post(&path, &serde_json::json!({})).await?;
    if output == Output::Json {
        output::json(&served)?;
    } else {
        table(&served.data);
    }
    let wrong = served.data.iter().find(|p| p.state != "this_version");
    if let Some(place) = wrong {
        let at = place.endpoint.as_ref().unwrap_or(&place.target_name);
        return Err(CliError::Failed(format!(
            "{id} is not served with its current version everywhere: {at}: {}",
            says(place)
        )));
    }
    if served.data.is_empty() {
        return Err(CliError::Failed(format!("{id} has no targets")));
    }
    if !served.fresh {
        return Err(CliError::Failed(format!(
            "not every agent of {id} has looked in time: what is shown may be out of date"
        )));
    }
    Ok(())
}

/// Prints what is served where.
pub fn table(served: &[PlaceShape]) {
    output::table(
        &["SERVED NOW", "AT", "SERIAL", "STATE", "SINCE", "SEEN"],
        served.iter().map(|place| {
            vec![
                place.target_name.clone(),
                place.endpoint.clone().unwrap_or_else(|| "-".into()),
                place.serial_number.clone().unwrap_or_else(|| "-".into()),
                says(place),
                output::moment(place.since.as_deref()),
                output::ago(place.seen_at.as_deref()),
            ]
        }),
    );
}

fn says(place: &PlaceShape) -> String {
    let words = match place.state.as_str() {
        "this_version" => "current version",
        "changed" => "not as it was deployed",
        "revoked" => "revoked, and still served: take it off, or deploy another certificate there",
        "other_version" => "another version of the certificate",
        "other_certificate" => "another certificate",
        "nothing" => "nothing answers",
        "not_seen" => "not seen yet",
        other => other,
    };
    match &place.error {
        Some(error) => format!("{words}: {error}"),
        None => words.to_owned(),
    }
}
