//! What goes into which image: the clusters' own, and Carrick's.

use std::path::{Path, PathBuf};
use std::process::Command;

use aws_lc_rs::digest::{Context, SHA256, digest};

use crate::image::{Entry, Image, Source};
use crate::parts::{Parts, cache_folder, repository};
use crate::progress::Progress;
use crate::run::{find_program, last_line, run, run_logged};
use crate::{Error, Result};

/// The container that holds a pod's namespaces.
pub(crate) const PAUSE: &str = "carrick-lab/pause:1";

const COREDNS: &str = "carrick-lab/coredns:1";

/// Carrick's programs: package, program, image.
const PROGRAMS: [(&str, &str); 4] = [
    ("carrick-gateway", "carrick/gateway"),
    ("carrick-agent", "carrick/agent"),
    ("carrick-controller", "carrick/controller"),
    ("carrick-probe", "carrick-probe"),
];

/// Those that set filters by Debian's `nft`.
const PROGRAMS_WITH_NFT: [&str; 2] = ["carrick-gateway", "carrick-agent"];

/// Static programs run in an empty image.
const TARGET: &str = if cfg!(target_arch = "aarch64") {
    "aarch64-unknown-linux-gnu"
} else {
    "x86_64-unknown-linux-gnu"
};

/// What makes them static.
const FLAGS: &str = "-C target-feature=+crt-static";

/// Carrick's images, written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carrick {
    /// The tag of all of them: it follows their content.
    pub tag: String,
    /// The archives.
    pub archives: Vec<PathBuf>,
}

/// Writes the images that every cluster needs into `folder`.
///
/// # Errors
/// When a program is missing or an archive can't be written.
pub fn cluster_images(parts: &Parts, folder: &Path) -> Result<Vec<PathBuf>> {
    let images = [(PAUSE, "pause"), (COREDNS, "coredns")].map(|(reference, name)| Image {
        reference: reference.to_owned(),
        entries: vec![program(name, &parts.program(name))],
        entrypoint: vec![format!("/{name}")],
    });
    write_all(&images, folder)
}

/// Builds Carrick's programs and writes their images into `folder`.
///
/// # Errors
/// When the build fails or an archive can't be written.
pub fn build_carrick(folder: &Path, progress: &Progress) -> Result<Carrick> {
    let packages: Vec<&str> = PROGRAMS.iter().map(|(package, _)| *package).collect();
    let command = cargo_build(&[&packages[..], &["carrick-cli"]].concat());
    run_build("Carrick's programs for images", "images", command, progress)?;
    write_carrick(&built_folder()?, folder)
}

/// As [`build_carrick`], from another copy of this repository and with a target folder of its own. It builds with the
/// compiler that the copy asks for, and leaves the processor to others.
///
/// # Errors
/// When the build fails or an archive can't be written.
pub(super) fn build_copy(
    copy: &Path,
    target: &Path,
    folder: &Path,
    progress: &Progress,
) -> Result<Carrick> {
    let packages: Vec<&str> = PROGRAMS.iter().map(|(package, _)| *package).collect();
    let mut command = build_command("cargo", 19, &packages);
    command.current_dir(copy).env_remove("RUSTUP_TOOLCHAIN").arg("--target-dir").arg(target);
    let words = "Carrick's programs of another commit, which takes minutes,";
    run_build(words, "previous", command, progress)?;
    write_carrick(&target.join(TARGET).join("image"), folder)
}

/// Writes the images of programs that are built.
fn write_carrick(built: &Path, folder: &Path) -> Result<Carrick> {
    let tag = tag(&PROGRAMS.map(|(name, _)| built.join(name)))?;
    let images = PROGRAMS
        .iter()
        .map(|(name, image)| {
            let mut entries = vec![program(name, &built.join(name))];
            if PROGRAMS_WITH_NFT.contains(name) {
                entries.extend(nft()?);
            }
            let reference = format!("{image}:{tag}");
            Ok(Image { reference, entries, entrypoint: vec![format!("/{name}")] })
        })
        .collect::<Result<Vec<_>>>()?;
    let archives = write_all(&images, folder)?;
    Ok(Carrick { tag, archives })
}

/// The `carrick` command, built with the images.
///
/// # Errors
/// When it wasn't built yet.
pub fn carrick_program() -> Result<PathBuf> {
    let program = built_folder()?.join("carrick");
    match program.is_file() {
        true => Ok(program),
        false => Err(Error::Invalid(format!(
            "{} is missing; `cargo lab reload` builds it",
            program.display()
        ))),
    }
}

/// A build of the gateway alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gateway {
    /// As the images have it.
    Shipped,
    /// Without its cipher, which shows what input and output cost: for benches only.
    WithoutCipher,
}

/// Builds the gateway alone and returns its path.
///
/// # Errors
/// When the build fails.
pub fn gateway_program(which: Gateway, progress: &Progress) -> Result<PathBuf> {
    let package = "carrick-gateway";
    match which {
        Gateway::Shipped => program_alone(package, progress),
        Gateway::WithoutCipher => {
            // A folder of its own: other flags would have everything built again, back and forth.
            let target = target_folder()?.join("without-cipher");
            let mut command = cargo_build(&[package]);
            command.env("RUSTFLAGS", format!("{FLAGS} --cfg carrick_floor"));
            command.arg("--target-dir").arg(&target);
            run_build("carrick-gateway without its cipher", "alone", command, progress)?;
            Ok(target.join(TARGET).join("image").join(package))
        }
    }
}

/// Builds one program of this repository, as the images' are built, and returns its path.
///
/// # Errors
/// When the build fails.
pub fn program_alone(package: &str, progress: &Progress) -> Result<PathBuf> {
    run_build(package, "alone", cargo_build(&[package]), progress)?;
    Ok(built_folder()?.join(package))
}

/// Builds something, with a log that is there as long as that takes.
fn run_build(what: &str, log: &str, mut command: Command, progress: &Progress) -> Result<()> {
    let cache = cache_folder();
    std::fs::create_dir_all(&cache).map_err(Error::file("making", &cache))?;
    let log = cache.join(format!("{log}-{}.log", std::process::id()));
    let detail = || last_line(&log);
    progress.step(&format!("built {what}"), detail, || run_logged(&mut command, &log))
}

fn built_folder() -> Result<PathBuf> {
    Ok(target_folder()?.join(TARGET).join("image"))
}

fn cargo_build(packages: &[&str]) -> Command {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = build_command(&cargo, 5, packages);
    command.current_dir(repository());
    command
}

fn build_command(cargo: &str, niceness: u8, packages: &[&str]) -> Command {
    let mut command = Command::new("nice");
    let niceness = niceness.to_string();
    command.args(["-n", &niceness, cargo, "build", "--profile", "image", "--target", TARGET]);
    command.args(packages.iter().flat_map(|package| ["--package", package]));
    // Variables of the cargo that runs us would make the inner one build other things.
    let outer = std::env::vars_os().map(|(name, _)| name);
    for name in outer.filter(|name| name.to_string_lossy().starts_with("CARGO_PKG")) {
        command.env_remove(name);
    }
    command.env("RUSTFLAGS", FLAGS);
    command
}

pub(super) fn target_folder() -> Result<PathBuf> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--format-version=1", "--no-deps"]).current_dir(repository());
    let text = run(&mut command)?;
    let metadata: serde_json::Value = serde_json::from_str(&text)
        .map_err(|e| Error::Format { what: "cargo metadata".into(), reason: e.to_string() })?;
    match metadata["target_directory"].as_str() {
        Some(folder) => Ok(PathBuf::from(folder)),
        None => Err(Error::Format {
            what: "cargo metadata".to_owned(),
            reason: "it names no target directory".to_owned(),
        }),
    }
}

fn tag(programs: &[PathBuf]) -> Result<String> {
    let mut all = Context::new(&SHA256);
    for path in programs {
        let content = std::fs::read(path).map_err(Error::file("reading", path))?;
        all.update(digest(&SHA256, &content).as_ref());
    }
    let hex: String = all.finish().as_ref().iter().take(6).map(|b| format!("{b:02x}")).collect();
    Ok(format!("{}-{hex}", env!("CARGO_PKG_VERSION")))
}

fn program(name: &str, path: &Path) -> Entry {
    Entry { path: name.to_owned(), source: Source::File(path.to_owned()), mode: 0o755 }
}

/// Debian's `nft` with the libraries that it is linked with, at the paths
/// where it looks for them.
fn nft() -> Result<Vec<Entry>> {
    let nft = find_program("nft").ok_or_else(|| {
        Error::Invalid("nft is missing; install the Debian package nftables".to_owned())
    })?;
    let libraries = libraries(&run(Command::new("ldd").arg(&nft))?);
    let inside = "usr/sbin/nft".to_owned();
    let mut entries = vec![Entry { path: inside, source: Source::File(nft), mode: 0o755 }];
    entries.extend(libraries.into_iter().map(|path| Entry {
        path: path.trim_start_matches('/').to_owned(),
        source: Source::File(PathBuf::from(&path)),
        mode: 0o755,
    }));
    Ok(entries)
}

/// The files that `ldd` names, the loader included.
fn libraries(ldd: &str) -> Vec<String> {
    let path = |line: &str| {
        let file = line.rsplit("=> ").next()?.split_whitespace().next()?;
        file.starts_with('/').then(|| file.to_owned())
    };
    ldd.lines().filter_map(path).collect()
}

fn write_all(images: &[Image], folder: &Path) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder).map_err(Error::file("making", folder))?;
    let write = |image: &Image| {
        let path = folder.join(format!("{}.tar", image.reference.replace(['/', ':'], "_")));
        image.write(&path).map(|()| path)
    };
    images.iter().map(write).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ldd_lines_give_files_and_the_loader() {
        let text = "\tlinux-vdso.so.1 (0x7ffd)\n\
            \tlibnftables.so.1 => /lib/x86_64-linux-gnu/libnftables.so.1 (0x7f)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x7f)\n";
        assert_eq!(
            libraries(text),
            ["/lib/x86_64-linux-gnu/libnftables.so.1", "/lib64/ld-linux-x86-64.so.2"]
        );
        assert!(libraries("\tnot a dynamic executable\n").is_empty());
    }

    #[test]
    fn the_tag_follows_the_programs() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("program");
        std::fs::write(&path, "one").expect("written");
        let first = tag(std::slice::from_ref(&path)).expect("a tag");
        std::fs::write(&path, "two").expect("written");
        let second = tag(&[path]).expect("a tag");
        assert_ne!(first, second);
        assert!(first.starts_with(env!("CARGO_PKG_VERSION")));
    }
}
