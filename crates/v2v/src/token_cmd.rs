//! `v2v token`: makes, lists and withdraws the tokens that let machines in.

use std::ffi::OsString;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use serde_json::json;
use server::TokenView;
use server::web::humane;
use wire::admin::CreateTokenRequest;

use crate::admin::{Admin, Client, Common};
use crate::table::{list, print, print_json, read, say, table};
use crate::units;

/// Options of `v2v token`.
#[derive(Debug, Parser)]
#[command(
    name = "v2v token",
    about = "Tokens: what lets a machine in to a running `v2v serve`",
    max_term_width = 80
)]
pub(crate) struct TokenCli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Create(Create),
    /// List tokens
    List,
    /// Withdraw a token; machines that used it stay
    Revoke {
        /// Number of the token
        #[arg(value_name = "ID")]
        id: u64,
    },
}

/// Make a token; its join string is printed once and kept nowhere
#[derive(Debug, Args)]
struct Create {
    /// Address of this server as machines reach it; several are tried in order
    /// [default: those that it listens on]
    #[arg(long = "server", value_name = "ADDR:PORT")]
    servers: Vec<String>,
    /// How long it can be used: 30m, 1h, 2d [default: 1d]
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    ttl: Option<Duration>,
    /// How many machines may use it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    uses: u32,
    /// Jobs of these machines start without approval
    #[arg(long)]
    auto_approve: bool,
    /// What it is for, shown in the list
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
}

/// Runs the command line that follows `v2v token`.
pub(crate) fn run(args: impl Iterator<Item = OsString>) -> Result<()> {
    let cli = TokenCli::parse_from(std::iter::once("v2v token".into()).chain(args));
    let admin = Client::connect(&cli.common.state)?;
    let json = cli.common.json;
    match cli.command {
        Command::Create(create) => self::create(&admin, create, json),
        Command::List => tokens(&admin, json),
        Command::Revoke { id } => {
            admin.revoke_token(id)?;
            say(&format!("token {id} is withdrawn"));
            if json {
                print_json(&json!({ "id": id, "revoked": true }))?;
            }
            Ok(())
        }
    }
}

fn create(admin: &dyn Admin, create: Create, json: bool) -> Result<()> {
    let reply = admin.create_token(CreateTokenRequest {
        servers: create.servers,
        ttl_seconds: create.ttl.map_or(0, |ttl| ttl.as_secs()),
        uses: create.uses,
        auto_approve: create.auto_approve,
        note: create.note,
    })?;
    if json {
        return print_json(&json!({
            "id": reply.id,
            "join": reply.join,
            "code": reply.code,
            "fingerprint": reply.fingerprint,
            "expires_unix_ms": reply.expires_unix_ms,
            "kernel_word": format!("p2v.join={}", reply.join),
        }));
    }
    print(&format!("{}\n", reply.join))?;
    say(&format!(
        "token        {}, expires {}\n\
         kernel word  p2v.join={}\n\
         code         {}   (to type by hand)\n\
         fingerprint  {}",
        reply.id,
        humane::utc(reply.expires_unix_ms),
        reply.join,
        reply.code,
        reply.fingerprint
    ));
    Ok(())
}

fn tokens(admin: &dyn Admin, json: bool) -> Result<()> {
    let documents = admin.tokens()?;
    if json {
        return print_json(&list(&documents)?);
    }
    let now_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis());
    let rows = documents
        .iter()
        .map(|json| Ok(row(&read(json)?, now_ms)))
        .collect::<Result<Vec<_>>>()?;
    let titles = ["ID", "STATE", "USED", "APPROVAL", "EXPIRES", "NOTE"];
    print(&table(&titles, &rows))?;
    Ok(())
}

fn row(token: &TokenView, now_ms: u128) -> Vec<String> {
    let state = if token.revoked {
        "withdrawn"
    } else if token.used >= token.uses {
        "used"
    } else if u128::from(token.expires_unix_ms) <= now_ms {
        "expired"
    } else {
        "valid"
    };
    let approval = if token.auto_approve { "none" } else { "needed" };
    vec![
        token.id.to_string(),
        state.to_owned(),
        format!("{} of {}", token.used, token.uses),
        approval.to_owned(),
        humane::utc(token.expires_unix_ms),
        token.note.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(used: u32, expires_unix_ms: u64, revoked: bool) -> TokenView {
        TokenView {
            id: 3,
            note: "rack".into(),
            created_unix_ms: 0,
            expires_unix_ms,
            uses: 2,
            used,
            revoked,
            auto_approve: true,
        }
    }

    #[test]
    fn the_state_of_a_token_is_told() {
        for (token, state) in [
            (token(1, 10, false), "valid"),
            (token(2, 10, false), "used"),
            (token(1, 5, false), "expired"),
            (token(0, 10, true), "withdrawn"),
        ] {
            assert_eq!(row(&token, 5)[1], state);
        }
    }

    #[test]
    fn help_fits_eighty_columns() {
        crate::serve_cmd::assert_help_fits(<TokenCli as clap::CommandFactory>::command());
    }
}
