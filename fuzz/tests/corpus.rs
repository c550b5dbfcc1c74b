//! The inputs that fuzzing kept, through the targets.

use std::path::Path;

use carrick_fuzz::targets;

#[test]
fn what_fuzzing_found_breaks_nothing() {
    for (name, run) in targets::ALL {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let mut count = 0;
        for file in std::fs::read_dir(&folder).expect("a folder of inputs") {
            let path = file.expect("a file").path();
            println!("{}", path.display());
            run(&std::fs::read(&path).expect("an input"));
            count += 1;
        }
        assert!(count > 0, "no inputs in {}", folder.display());
    }
}
