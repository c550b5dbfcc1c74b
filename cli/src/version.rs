//! `carrick version`.

use crate::state::State;

/// This program's version, and, with a state, what runs in the cluster.
pub fn render(state: Option<&State>) -> String {
    let mut text = format!("carrick {}\n", env!("CARGO_PKG_VERSION"));
    let Some(state) = state else { return text };
    match &state.version {
        Ok(version) => text.push_str(&format!("kubernetes {version} at {}\n", state.server)),
        Err(error) => text.push_str(&format!("kubernetes unknown: {error}\n")),
    }
    let installed = match &state.controller {
        Ok(Some(deployment)) => image(deployment).unwrap_or_else(|| "unknown image".to_owned()),
        Ok(None) => format!("not installed in the namespace {}", state.namespace),
        Err(error) => format!("unknown: {error}"),
    };
    text.push_str(&format!("controller {installed}\n"));
    for listed in state.peerings.as_deref().unwrap_or_default() {
        let object = listed.object.as_ref().ok();
        let peer = object.and_then(|o| o.status.as_ref()).and_then(|s| s.peer.as_ref());
        let release = peer.map(|p| p.release.as_str()).filter(|r| !r.is_empty());
        text.push_str(&format!("peer {} {}\n", listed.name, release.unwrap_or("unknown")));
    }
    text
}

fn image(deployment: &k8s_openapi::api::apps::v1::Deployment) -> Option<String> {
    let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
    pod.containers.first()?.image.clone()
}
