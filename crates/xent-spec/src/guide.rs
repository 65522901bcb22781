//! The Rust on the pages of docs/guide, as documentation tests. They are here rather than in
//! `xent`, because this crate is not published: a package cannot include files outside its folder.

/// One item for each page, so that a failure names it.
macro_rules! pages {
    ($($name:ident $path:literal)*) => {
        $(
            #[doc = include_str!($path)]
            pub struct $name;
        )*
    };
}

pages! {
    ChoosingEpsilon "../../../docs/guide/choosing-epsilon.md"
    ImbalancedClasses "../../../docs/guide/imbalanced-classes.md"
    LargeVocabularies "../../../docs/guide/large-vocabularies.md"
    MaskedClasses "../../../docs/guide/masked-classes.md"
    Mixup "../../../docs/guide/mixup.md"
    PaddingAndDenominators "../../../docs/guide/padding-and-denominators.md"
    WhatToReport "../../../docs/guide/what-to-report.md"
}
