// Written with its library.
