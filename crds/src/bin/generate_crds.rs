//! Writes the CustomResourceDefinitions into the chart.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/carrick/templates/crds");
    std::fs::create_dir_all(&folder)?;
    for (name, content) in carrick_crds::generate::files()? {
        std::fs::write(folder.join(name), content)?;
    }
    Ok(())
}
