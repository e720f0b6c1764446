//! How a server is set up: what `v2v serve` makes of its command line.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use convert::Conversion;

/// Makes a conversion of options in v2v's words (the server's and, over them, the job's), or says in one line what is
/// wrong with them. The program gives it, since it has the command line.
pub type ParseOptions = dyn Fn(&[String]) -> Result<Conversion, String> + Send + Sync;

/// Everything that a server must know at its start.
#[derive(Clone)]
pub struct ServerConfig {
    /// Folder of all that must survive: authority, database, spools, the admin socket.
    pub state: PathBuf,
    /// Where agents connect to.
    pub listen: Vec<SocketAddr>,
    /// Where the web page is; `None` for none.
    pub web: Option<SocketAddr>,
    /// Conversion and output options of every job.
    pub options: Vec<String>,
    /// Reads such options.
    pub parse: Arc<ParseOptions>,
    /// Jobs need no approval.
    pub auto_approve: bool,
    /// Jobs that run at the same time, at least 1.
    pub max_jobs: usize,
    /// Bytes a second of one job; `None` without limit.
    pub job_bandwidth: Option<u64>,
    /// Bytes a second of all jobs together.
    pub total_bandwidth: Option<u64>,
    /// Bytes that must stay free where the spools are.
    pub reserve_bytes: u64,
    /// Keep what was received of a done job, and send only what changed when the machine comes again.
    pub resync: bool,
    /// A job with unreadable sectors may end as done with errors.
    pub allow_bad_sectors: bool,
    /// A proof reads everything on the agent's side again.
    pub reread_proof: bool,
    /// Output options that an agent asks for are followed.
    pub agents_choose_output: bool,
    /// How long a job waits for an agent that is away; `None` for ever.
    pub agent_patience: Option<Duration>,
}

impl fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConfig")
            .field("state", &self.state)
            .field("listen", &self.listen)
            .field("web", &self.web)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
