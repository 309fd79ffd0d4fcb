//! the referee: holds the program against reference tensors
