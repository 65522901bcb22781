//! `xent loss` as its users meet it: files in, numbers out, and errors that say what is wrong.

mod answers;
mod array_folder;
mod arrays;
mod output;
mod refusals;
mod rows;
