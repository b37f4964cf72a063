//! Programs from Debian's packages, unpacked into the cache and not installed.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    binaries::{cache_folder, lock, say},
    error::{Context as _, Error, Result},
};

/// Packages that are unpacked into one folder of the cache.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packages<'a> {
    /// What the programs are called together, in messages.
    pub(crate) what: &'a str,
    pub(crate) names: &'a [&'a str],
    /// The folder's name in the cache.
    pub(crate) folder: &'a str,
    /// The environment variable that names a folder with the programs instead.
    pub(crate) variable: &'a str,
}

impl Packages<'_> {
    /// A program: from the folder that the variable names, from `PATH`, or from the packages, in this folder of theirs.
    pub(crate) fn program(&self, name: &str, folder: &str) -> Result<PathBuf> {
        let named = std::env::var_os(self.variable).map(PathBuf::from);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = named.into_iter().chain(std::env::split_paths(&path));
        if let Some(found) = folders.map(|folder| folder.join(name)).find(|path| path.is_file()) {
            return Ok(found);
        }
        Ok(self.unpacked()?.join(folder).join(name))
    }

    /// The folder of the cache, filled the first time.
    fn unpacked(&self) -> Result<PathBuf> {
        let cache = cache_folder()?;
        let folder = cache.join(self.folder);
        let _lock = lock(&cache.join("lock"))?;
        if folder.is_dir() {
            return Ok(folder);
        }
        let names = self.names.join(", ");
        say(&format!("fetching {names} from Debian's packages into {}", folder.display()));
        let packages = tempfile::tempdir_in(&cache).context("make a folder for packages")?;
        self.download(packages.path())?;
        let unpacked = packages.path().join("unpacked");
        for entry in std::fs::read_dir(packages.path()).context("list the packages")? {
            let path = entry.context("list the packages")?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                self.run(Command::new("dpkg").arg("--extract").arg(&path).arg(&unpacked))?;
            }
        }
        std::fs::rename(&unpacked, &folder).context(format!("rename to {}", folder.display()))?;
        Ok(folder)
    }

    /// With the package lists as they are; where they are missing or too old, with new ones.
    fn download(&self, folder: &Path) -> Result<()> {
        let fetch = || {
            // Root hands the download to a user of its own, who may not write here.
            let as_root = ["-o", "APT::Sandbox::User=root", "download", "-qq"];
            self.run(Command::new("apt-get").args(as_root).args(self.names).current_dir(folder))
        };
        fetch().or_else(|_| {
            self.run(Command::new("apt-get").args(["update", "-qq"]))?;
            fetch()
        })
    }

    fn run(&self, command: &mut Command) -> Result<()> {
        let program = command.get_program().to_string_lossy().into_owned();
        let output = command.stdin(Stdio::null()).output();
        let reason = match output {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        let remedy = format!(
            "{program}: {reason}. They come from Debian's packages; elsewhere install {} or name a folder that holds \
             them in {}",
            self.names.join(", "),
            self.variable
        );
        Err(Error::Missing { program: self.what.to_owned(), remedy })
    }
}
