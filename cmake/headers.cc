// Nothing but a place for the headers that all modules share, compiled once (modules.cmake).
