//! The textbook passes its own conformance checks.

xent_spec::conformance!(xent_spec::Textbook);
