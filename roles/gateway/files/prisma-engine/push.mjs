#!/usr/bin/env node
/**
 * Brings a database to a Prisma schema, with Prisma's own schema engine (WebAssembly, through a pure JavaScript
 * driver).
 *
 *   DATABASE_URL=postgresql://... node push.mjs SCHEMA            applies what is missing, prints how many steps that took
 *   DATABASE_URL=postgresql://... node push.mjs SCHEMA --check    changes nothing, prints the SQL that would be run
 *
 * Exit status: 0 done, or nothing to do · 1 failed, one line says why · 2 wrong usage · 3 (--check) the schema
 * differs. Steps that would lose data are refused; they need a person, a backup and --accept-data-loss.
 */

import fs from 'node:fs';
import { createRequire } from 'node:module';
import { parseArgs } from 'node:util';

import * as glue from './node_modules/@prisma/schema-engine-wasm/schema_engine_bg.js';

// All the rest is CommonJS; only the glue above is an ES module, and the reason that this file is one.
const require = createRequire(import.meta.url);
const pg = require('pg');
const { PrismaPg } = require('schema-adapter-pg');
const { bindMigrationAwareSqlAdapterFactory } = require('schema-adapter-utils');
const { parseDatabaseUrl } = require('./lib/database-url');
const { describeFailure } = require('./lib/errors');
const { ConnectionPool } = require('./lib/pool');

const EXIT = { done: 0, failed: 1, usage: 2, differs: 3 };

/** Any number will do, as long as every push uses the same one. */
const ADVISORY_LOCK = 5_170_001;

/**
 * PostgreSQL's internal "char", which the catalogue uses and the driver adapter does not know, and text, which it
 * reads as.
 */
const OID_CHAR = 18;
const OID_TEXT = 25;

class PushError extends Error {}

class UsageError extends Error {}

/** Presents the catalogue's "char" columns as text. */
class CatalogueClient extends pg.Client {
  query(...args) {
    const relabel = (result) => {
      for (const field of result?.fields ?? []) if (field.dataTypeID === OID_CHAR) field.dataTypeID = OID_TEXT;
      return result;
    };
    const callback = args.at(-1);
    if (typeof callback !== 'function') return super.query(...args).then(relabel);
    return super.query(...args.slice(0, -1), (error, result) => callback(error, relabel(result)));
  }
}

function loadSchemaEngine() {
  const file = new URL('./node_modules/@prisma/schema-engine-wasm/schema_engine_bg.wasm', import.meta.url);
  const instance = new WebAssembly.Instance(new WebAssembly.Module(fs.readFileSync(file)), {
    './schema_engine_bg.js': glue,
  });
  glue.__wbg_set_wasm(instance.exports);
  instance.exports.__wbindgen_start?.();
  return glue.SchemaEngine;
}

/** This newer engine takes the connection from the driver and refuses a schema that names one. */
function withoutDatasourceUrl(schema) {
  return schema.replace(/^\s*url\s*=.*$/m, '');
}

async function difference(engine, files) {
  const { stdout } = await engine.diff({
    from: { tag: 'schemaDatasource', files, configDir: '.' },
    to: { tag: 'schemaDatamodel', files },
    script: true,
    shadowDatabaseUrl: null,
    exitCode: true,
    filters: { externalTables: [], externalEnums: [] },
  });
  return /^\s*(-- This is an empty migration\.)?\s*$/.test(stdout) ? '' : stdout;
}

async function push(engine, files, acceptDataLoss) {
  const { executedSteps, unexecutable, warnings } = await engine.schemaPush({
    force: acceptDataLoss,
    schema: { files },
    filters: { externalTables: [], externalEnums: [] },
  });
  if (unexecutable.length > 0) throw new PushError(`cannot be done on these data: ${unexecutable.join('; ')}`);
  if (warnings.length > 0 && !acceptDataLoss) {
    throw new PushError(`would lose data: ${warnings.join('; ')} (after a backup: --accept-data-loss)`);
  }
  return executedSteps;
}

/** Holds the lock that keeps two hosts from pushing at the same time; it ends with the connection. */
async function lockDatabase(settings) {
  const pool = new ConnectionPool({ ...settings, connectionLimit: 1 });
  const { driver, address } = settings;
  try {
    const client = await pool.acquire();
    await client.query('SELECT pg_advisory_lock($1)', [ADVISORY_LOCK]);
  } catch (error) {
    const database = { ...address, user: driver.user, database: driver.database };
    throw new PushError(describeFailure(error, database).message.replaceAll(/\s*\n\s*/g, ' '));
  }
}

function readArguments() {
  const options = {
    check: { type: 'boolean', default: false },
    'accept-data-loss': { type: 'boolean', default: false },
  };
  let parsed;
  try {
    parsed = parseArgs({ allowPositionals: true, options });
  } catch (error) {
    throw new UsageError(error.message);
  }
  const { values, positionals } = parsed;
  if (positionals.length !== 1) throw new UsageError('one schema file is needed');
  if (!process.env.DATABASE_URL) throw new UsageError('DATABASE_URL is not set');
  return { path: positionals[0], isCheck: values.check, acceptDataLoss: values['accept-data-loss'] };
}

async function main() {
  const { path, isCheck, acceptDataLoss } = readArguments();
  const settings = parseDatabaseUrl(process.env.DATABASE_URL);
  const content = withoutDatasourceUrl(fs.readFileSync(path, 'utf8'));
  const files = [{ path, content }];

  await lockDatabase(settings);
  const pool = new pg.Pool({ ...settings.driver, Client: CatalogueClient });
  const factory = bindMigrationAwareSqlAdapterFactory(new PrismaPg(pool, { schema: settings.schema }));
  const SchemaEngine = loadSchemaEngine();
  const engine = await SchemaEngine.new({ datamodels: [[path, content]] }, () => {}, factory);
  if (isCheck) {
    const sql = await difference(engine, files);
    return sql ? [EXIT.differs, sql] : [EXIT.done, 'the database has this schema\n'];
  }
  const steps = await push(engine, files, acceptDataLoss);
  return [EXIT.done, `${steps} steps executed\n`];
}

let status;
try {
  let text;
  [status, text] = await main();
  await new Promise((resolve) => process.stdout.write(text, resolve)); // a pipe takes its time, process.exit() does not
} catch (error) {
  status = error instanceof UsageError ? EXIT.usage : EXIT.failed;
  const [line] = String(error.message ?? error).split('\n');
  process.stderr.write(`schema push: ${line}\n`);
}
process.exit(status); // not by itself: the pools keep their connections
