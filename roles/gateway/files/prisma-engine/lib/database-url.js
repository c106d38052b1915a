'use strict';

/**
 * Prisma's connection URL, read the way Prisma's own engine reads it, as settings for the `pg` driver.
 *
 * `pg` has a URL reader of its own, but it knows libpq's parameters and not Prisma's (connection_limit, pool_timeout,
 * schema), and it gives sslmode another meaning.
 */

const fs = require('node:fs');
const os = require('node:os');

const SECOND = 1000;
const DEFAULT_PORT = 5432;
const DEFAULT_CONNECT_SECONDS = 5;
const DEFAULT_POOL_WAIT_SECONDS = 10;
const IDLE_CONNECTION_SECONDS = 300;
const KEEPALIVE_SECONDS = 10;

/** A non-negative number of seconds from a URL parameter. */
function seconds(parameters, name, fallback) {
  const text = parameters.get(name);
  if (text === null) return fallback;
  const value = Number(text);
  if (!Number.isFinite(value) || value < 0)
    throw new Error(`${name} in DATABASE_URL must be a number of seconds, not "${text}"`);
  return value;
}

/** Connections at most: Prisma's own default unless the URL sets it. */
function connectionLimit(parameters) {
  const text = parameters.get('connection_limit');
  if (text === null) return os.cpus().length * 2 + 1;
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1)
    throw new Error(`connection_limit in DATABASE_URL must be at least 1, not "${text}"`);
  return value;
}

/**
 * TLS as `pg` wants it. An authority given as sslcert is always checked; without one Prisma's default is to encrypt
 * without checking who answers, and so is ours.
 */
function tls(parameters) {
  const mode = parameters.get('sslmode') ?? 'disable';
  if (mode === 'disable' || mode === 'prefer' || mode === 'allow') return false;
  if (!['require', 'verify-ca', 'verify-full'].includes(mode))
    throw new Error(`sslmode "${mode}" in DATABASE_URL is unknown`);
  const authority = parameters.get('sslcert') ?? parameters.get('sslrootcert');
  const strict = parameters.get('sslaccept') === 'strict' || mode.startsWith('verify') || authority !== null;
  const options = { rejectUnauthorized: strict };
  if (authority !== null) options.ca = fs.readFileSync(authority, 'utf8');
  if (mode === 'verify-ca') options.checkServerIdentity = () => undefined;
  return options;
}

/** A value inside the start-up parameter `options`, where a backslash escapes a space. */
function escapeOption(value) {
  return value.replace(/[\\ ]/g, '\\$&');
}

/**
 * @param {string} text e.g. postgresql://user:password@host:5432/database?connection_limit=10&pool_timeout=60
 * @returns {{driver: object, schema: string, connectionLimit: number, poolWaitMs: number, queryLimitMs: number,
 *            address: {host: string, port: number}}} settings; limits of 0 mean "no limit"
 */
function parseDatabaseUrl(text) {
  let url;
  try {
    url = new URL(text);
  } catch {
    throw new Error('DATABASE_URL is not a URL'); // never its text: it holds the password
  }
  if (url.protocol !== 'postgresql:' && url.protocol !== 'postgres:') {
    throw new Error(`DATABASE_URL must start with postgresql://, not ${url.protocol}//`);
  }
  const parameters = url.searchParams;
  const schema = parameters.get('schema') ?? 'public';
  const host = parameters.get('host') ?? url.hostname.replace(/^\[|\]$/g, '');
  if (host === '') throw new Error('DATABASE_URL names no host');
  const port = Number(url.port || parameters.get('port') || DEFAULT_PORT);
  const database = decodeURIComponent(url.pathname.slice(1)) || 'postgres';

  // The engine hands timestamps over without a zone, in UTC; the session must read them as such.
  const options = ['-c timezone=UTC'];
  if (schema !== 'public') options.push(`-c search_path=${escapeOption(`"${schema.replaceAll('"', '""')}"`)}`);

  return {
    driver: {
      host,
      port,
      database,
      user: decodeURIComponent(url.username),
      password: decodeURIComponent(url.password),
      ssl: tls(parameters),
      options: options.join(' '),
      application_name: parameters.get('application_name') ?? 'prisma-engine',
      connectionTimeoutMillis: SECOND * seconds(parameters, 'connect_timeout', DEFAULT_CONNECT_SECONDS),
      idleTimeoutMillis: SECOND * IDLE_CONNECTION_SECONDS,
      keepAlive: true,
      keepAliveInitialDelayMillis: SECOND * KEEPALIVE_SECONDS,
    },
    schema,
    connectionLimit: connectionLimit(parameters),
    poolWaitMs: SECOND * seconds(parameters, 'pool_timeout', DEFAULT_POOL_WAIT_SECONDS),
    queryLimitMs: SECOND * seconds(parameters, 'socket_timeout', 0),
    address: { host, port },
  };
}

module.exports = { parseDatabaseUrl };
