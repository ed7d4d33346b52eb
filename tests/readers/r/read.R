# Reads with one of R's packages: PACKAGE FILE SPARSE STRINGS FOLDER DATASET...
# Writes each dataset's elements, as doubles, into FOLDER/1, FOLDER/2, ...; prints "name value" lines.
# R counts from 1, and its axes run the other way, so its order in memory is the file's.
arguments <- commandArgs(TRUE)
package <- arguments[1]; path <- arguments[2]; sparse <- arguments[3]; strings <- arguments[4]
folder <- arguments[5]; names <- arguments[-(1:5)]
suppressMessages(library(package, character.only = TRUE))

if (package == "rhdf5") {
    read <- function(name) h5read(path, name, bit64conversion = "double")
    attributes <- function(at) h5readAttributes(path, at, bit64conversion = "double")
    element <- function(i) h5read(sparse, "sparse", index = list(i, i, i))
    words <- function() h5read(strings, "words")
} else if (package == "hdf5r") {
    file <- H5File$new(path, mode = "r")
    large <- H5File$new(sparse, mode = "r")
    read <- function(name) {
        dataset <- file[[name]]
        dataset$read()
    }
    attributes <- function(at) {
        node <- if (at == "/") file else file[[at]]
        h5attributes(node)
    }
    element <- function(i) large[["sparse"]][i, i, i]
    words <- function() H5File$new(strings, mode = "r")[["words"]]$read()
} else {
    file <- nc_open(path)
    large <- nc_open(sparse)
    read <- function(name) ncvar_get(file, name, raw_datavals = TRUE)
    attributes <- function(at) {
        if (at == "/") ncatt_get(file, 0) else ncatt_get(file, substring(at, 2))
    }
    element <- function(i) ncvar_get(large, "sparse", start = c(i, i, i), count = c(1, 1, 1))
    words <- function() ncvar_get(nc_open(strings), "words")
}

cat("version", as.character(packageVersion(package)), "\n")
for (k in seq_along(names)) {
    target <- file(file.path(folder, k), "wb")
    writeBin(as.double(read(names[k])), target, size = 8)
    close(target)
}
for (at in c("/", "/img")) {
    found <- attributes(at)
    for (name in c("text", "long")) cat(at, name, nchar(found[[name]]), substr(found[[name]], 1, 6), "\n")
    for (name in c("int", "float", "ints")) cat(at, name, paste(as.double(found[[name]]), collapse = ","), "\n")
}
for (i in c(1, 64000)) cat("element", as.double(element(i)), "\n")
target <- file(file.path(folder, "words"), "wb")
writeBin(charToRaw(paste(words(), collapse = "\n")), target)
close(target)
