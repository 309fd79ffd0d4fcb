//! the form a cleaned page takes at rest: schema, reader, writer
