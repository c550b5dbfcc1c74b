//! Writing an image as an OCI archive: one layer, no compression, and the same
//! bytes for the same content.

use std::io::Write;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest as hash};
use serde_json::{Value, json};

use crate::{Error, Result};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// What a file of an image holds.
#[derive(Clone, Debug)]
pub enum Source {
    /// A copy of a file of this host.
    File(PathBuf),
    /// These bytes.
    Bytes(Vec<u8>),
}

/// A file of an image.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its path in the image, without the leading slash.
    pub path: String,
    /// Its content.
    pub source: Source,
    /// Its permissions.
    pub mode: u32,
}

/// An image to write.
#[derive(Clone, Debug)]
pub struct Image {
    /// The name with its tag ("carrick/agent:0.1.0"); Docker's prefix is added as runtimes do.
    pub reference: String,
    /// The files.
    pub entries: Vec<Entry>,
    /// The command line; a pod's arguments are appended.
    pub entrypoint: Vec<String>,
}

impl Image {
    /// Writes the archive.
    ///
    /// # Errors
    /// When a source can't be read or the archive can't be written.
    pub fn write(&self, archive: &Path) -> Result<()> {
        let file = std::fs::File::create(archive).map_err(Error::file("making", archive))?;
        self.write_to(std::io::BufWriter::new(file)).map_err(Error::file("writing", archive))
    }

    fn write_to(&self, out: impl Write) -> std::io::Result<()> {
        let layer = self.layer()?;
        let config = self.config(&digest(&layer)).to_string().into_bytes();
        let manifest = manifest(&config, &layer).to_string().into_bytes();
        let index = self.index(&manifest).to_string().into_bytes();
        let mut archive = tar::Builder::new(out);
        append(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644)?;
        append(&mut archive, "index.json", &index, 0o644)?;
        for blob in [&manifest, &config, &layer] {
            append(&mut archive, &blob_path(blob), blob, 0o644)?;
        }
        archive.into_inner()?.flush()
    }

    fn layer(&self) -> std::io::Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        for folder in self.folders() {
            append_folder(&mut archive, &folder)?;
        }
        for entry in &self.entries {
            let content = match &entry.source {
                Source::Bytes(bytes) => bytes.clone(),
                Source::File(path) => std::fs::read(path).map_err(|error| {
                    std::io::Error::new(error.kind(), format!("{}: {error}", path.display()))
                })?,
            };
            append(&mut archive, &entry.path, &content, entry.mode)?;
        }
        archive.into_inner()
    }

    fn folders(&self) -> Vec<String> {
        let parents =
            self.entries.iter().flat_map(|entry| Path::new(&entry.path).ancestors().skip(1));
        let mut folders: Vec<String> = parents
            .map(|path| path.to_string_lossy().into_owned())
            .filter(|p| !p.is_empty())
            .collect();
        folders.sort();
        folders.dedup();
        folders
    }

    fn config(&self, layer_digest: &str) -> Value {
        json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "Entrypoint": self.entrypoint,
                "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin:/"],
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
        })
    }

    fn index(&self, manifest: &[u8]) -> Value {
        let tag = self.reference.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        json!({
            "schemaVersion": 2,
            "manifests": [{
                "mediaType": MANIFEST,
                "digest": digest(manifest),
                "size": manifest.len(),
                "annotations": {
                    "io.containerd.image.name": canonical(&self.reference),
                    "org.opencontainers.image.ref.name": tag,
                },
            }],
        })
    }
}

/// A short name as runtimes complete it.
fn canonical(reference: &str) -> String {
    match reference.contains('/') {
        true => format!("docker.io/{reference}"),
        false => format!("docker.io/library/{reference}"),
    }
}

fn manifest(config: &[u8], layer: &[u8]) -> Value {
    let describe = |kind: &str, blob: &[u8]| json!({"mediaType": kind, "digest": digest(blob), "size": blob.len()});
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": describe(CONFIG, config),
        "layers": [describe(LAYER, layer)],
    })
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn digest(blob: &[u8]) -> String {
    let hex: String =
        hash(&SHA256, blob).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn blob_path(blob: &[u8]) -> String {
    format!("blobs/{}", digest(blob).replace(':', "/"))
}

fn append(
    archive: &mut tar::Builder<impl Write>,
    path: &str,
    content: &[u8],
    mode: u32,
) -> std::io::Result<()> {
    let mut header = plain_header(mode);
    header.set_size(content.len() as u64);
    archive.append_data(&mut header, path, content)
}

fn append_folder(archive: &mut tar::Builder<impl Write>, path: &str) -> std::io::Result<()> {
    let mut header = plain_header(0o755);
    header.set_entry_type(tar::EntryType::Directory);
    header.set_size(0);
    archive.append_data(&mut header, format!("{path}/"), std::io::empty())
}

/// No time, no owner: the same content gives the same digest.
fn plain_header(mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read as _;

    use super::*;

    fn image() -> Image {
        let entry = |path: &str, bytes: &[u8]| Entry {
            path: path.to_owned(),
            source: Source::Bytes(bytes.to_vec()),
            mode: 0o755,
        };
        Image {
            reference: "carrick/test:1.2".to_owned(),
            entries: vec![entry("tool", b"program"), entry("etc/deep/file", b"text")],
            entrypoint: vec!["/tool".to_owned()],
        }
    }

    fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(archive);
        let entries = archive.entries().expect("an archive");
        let read = entries.map(|entry| {
            let mut entry = entry.expect("an entry");
            let path = entry.path().expect("a path").to_string_lossy().into_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("content");
            (path, content)
        });
        read.collect()
    }

    fn written(image: &Image) -> Vec<u8> {
        let mut out = Vec::new();
        image.write_to(&mut out).expect("written");
        out
    }

    /// Follows a descriptor and checks the digest and the size that it names.
    fn follow(files: &BTreeMap<String, Vec<u8>>, descriptor: &Value) -> Vec<u8> {
        let named = descriptor["digest"].as_str().expect("a digest");
        let blob = &files[&format!("blobs/{}", named.replace(':', "/"))];
        assert_eq!(digest(blob), named);
        assert_eq!(descriptor["size"], blob.len());
        blob.clone()
    }

    fn json(text: &[u8]) -> Value {
        serde_json::from_slice(text).expect("JSON")
    }

    #[test]
    fn every_digest_leads_to_its_content() {
        let files = files(&written(&image()));
        let index = json(&files["index.json"]);
        let described = &index["manifests"][0];
        assert_eq!(
            described["annotations"]["io.containerd.image.name"],
            "docker.io/carrick/test:1.2"
        );
        assert_eq!(described["annotations"]["org.opencontainers.image.ref.name"], "1.2");
        let manifest = json(&follow(&files, described));
        let config = json(&follow(&files, &manifest["config"]));
        let layer = follow(&files, &manifest["layers"][0]);
        assert_eq!(config["rootfs"]["diff_ids"][0], digest(&layer));
        assert_eq!(config["config"]["Entrypoint"][0], "/tool");
        let content = self::files(&layer);
        assert_eq!(content["tool"], b"program");
        assert!(content.contains_key("etc/") && content.contains_key("etc/deep/"));
    }

    #[test]
    fn the_same_content_gives_the_same_bytes() {
        assert_eq!(written(&image()), written(&image()));
        let mut other = image();
        other.entries[0].source = Source::Bytes(b"changed".to_vec());
        assert_ne!(written(&image()), written(&other));
    }

    #[test]
    fn short_names_are_completed_as_runtimes_do() {
        assert_eq!(canonical("carrick/agent:1"), "docker.io/carrick/agent:1");
        assert_eq!(canonical("carrick-probe:1"), "docker.io/library/carrick-probe:1");
    }

    #[test]
    fn a_missing_source_is_named() {
        let mut image = image();
        image.entries[0].source = Source::File("/nonexistent/tool".into());
        let error = image.write_to(Vec::new()).expect_err("missing");
        assert!(error.to_string().contains("/nonexistent/tool"), "{error}");
    }
}
