'use strict';

/**
 * Start to stop of the engine process: what the client passes in, connect, serve, and go when the client goes.
 */

const fs = require('node:fs');
const { setTimeout: sleep } = require('node:timers/promises');

const { PoolAdapter } = require('./adapter');
const { parseDatabaseUrl } = require('./database-url');
const { Engine } = require('./engine');
const { describeFailure } = require('./errors');
const { ConnectionPool } = require('./pool');
const { createHandler, serve } = require('./server');
const { ENGINE_COMMIT } = require('./versions');

const CONNECT_RETRY_MS = 250;
const PARENT_CHECK_MS = 1000;

/** How long work in hand may take after a signal; the client sends it and then waits for us, doing nothing else. */
const STOP_GRACE_MS = 2000;

/** LiteLLM's supervisor knows engines that have lost their worker by this name, and ends them. */
const PROCESS_NAME = 'query-engine';

/**
 * Codes of a database that may be there in a moment (unreachable, or still starting), not of a wrong password or
 * name.
 */
const PASSING = new Set(['P1001']);

/** A failure whose message is the whole story. */
class StartError extends Error {}

/** The value after an option; the client's other options ask for what is always on. */
function option(args, ...names) {
  const index = args.findIndex((arg) => names.includes(arg));
  return index === -1 ? undefined : args[index + 1];
}

/** The schema, and the URL: prisma-client-py may override the one in the environment. */
function readEnvironment(environment) {
  const { PRISMA_DML_PATH, PRISMA_DML, OVERWRITE_DATASOURCES, DATABASE_URL } = environment;
  if (!PRISMA_DML_PATH && !PRISMA_DML) throw new StartError('PRISMA_DML_PATH does not name a Prisma schema');
  const datamodel = PRISMA_DML_PATH
    ? fs.readFileSync(PRISMA_DML_PATH, 'utf8')
    : Buffer.from(PRISMA_DML, 'base64').toString('utf8');
  const [override] = OVERWRITE_DATASOURCES ? JSON.parse(OVERWRITE_DATASOURCES) : [];
  const url = override?.url ?? DATABASE_URL;
  if (!url) throw new StartError('DATABASE_URL is not set');
  return { datamodel, url };
}

/** Waits for the database as long as one connection attempt may take: it may be starting at this very moment. */
async function requireDatabase(pool, database, waitMs) {
  const deadline = Date.now() + waitMs;
  for (;;) {
    try {
      (await pool.acquire()).release();
      return;
    } catch (error) {
      const failure = describeFailure(error, database);
      if (!PASSING.has(failure.error_code) || Date.now() + CONNECT_RETRY_MS > deadline) {
        throw new StartError(`${failure.error_code}: ${failure.message.replaceAll(/\s*\n\s*/g, ' ')}`);
      }
      await sleep(CONNECT_RETRY_MS);
    }
  }
}

async function run(args, environment) {
  const port = Number(option(args, '-p', '--port') ?? environment.PORT);
  if (!Number.isInteger(port) || port < 1 || port > 65535) throw new StartError('no port given (-p PORT)');
  const { datamodel, url } = readEnvironment(environment);
  const settings = parseDatabaseUrl(url);
  const { address, connectionLimit, poolWaitMs, driver } = settings;
  const database = { ...address, user: driver.user, database: driver.database, connectionLimit, poolWaitMs };

  const pool = new ConnectionPool(settings);
  const engine = new Engine({ datamodel, adapter: new PoolAdapter(pool, settings), database });
  await engine.connect();
  await requireDatabase(pool, database, driver.connectionTimeoutMillis);
  const server = await serve({ handle: createHandler(engine, pool), port, onBug: (error) => report(error.stack) });

  let stopping = false;
  async function stop() {
    if (stopping) return;
    stopping = true;
    await server.close(STOP_GRACE_MS);
    process.exit(0); // PostgreSQL rolls back what a closed connection has left open
  }
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
  const parent = process.ppid;
  setInterval(() => process.ppid !== parent && stop(), PARENT_CHECK_MS).unref();
}

function report(message) {
  process.stderr.write(`prisma-engine: ${message}\n`);
}

/** @param {string[]} args of the command line, without node and the script */
async function main(args) {
  process.title = PROCESS_NAME;
  if (args[0] === '--version' || args[0] === '-V') {
    process.stdout.write(`query-engine ${ENGINE_COMMIT}\n`);
    return;
  }
  // A crash inside WebAssembly leaves it unusable and its callers waiting; the client starts a new engine when this
  // one ends.
  const die = (error) => {
    report(error.stack);
    process.exit(1);
  };
  process.on('uncaughtException', die);
  process.on('unhandledRejection', die);
  try {
    await run(args, process.env);
  } catch (error) {
    report(
      error instanceof StartError || error.code === undefined ? error.message : `${error.code}: ${error.message}`,
    );
    process.exit(1);
  }
}

module.exports = { main };
