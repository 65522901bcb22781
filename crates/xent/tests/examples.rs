//! Every example runs, and what it asserts holds.

/// A module for each example, a test that runs it, and the list of their names.
macro_rules! examples {
    ($($path:literal $name:ident)*) => {
        $(
            #[path = $path]
            mod $name;

            #[test]
            fn $name() -> xent::Result<()> {
                $name::main()
            }
        )*

        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

examples! {
    "../examples/backend.rs" backend
    "../examples/images.rs" images
    "../examples/in_place.rs" in_place
    "../examples/padding.rs" padding
    "../examples/probabilities.rs" probabilities
    "../examples/training_step.rs" training_step
    "../examples/upstream.rs" upstream
}

/// `bits` is a tool and no example; it takes minutes.
#[test]
fn none_is_missing() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(NAMES.contains(&name) || name == "bits", "{}", path.display());
    }
}
