'use strict';

/**
 * The one release of Prisma that this code speaks to, and the refusal to run with another.
 *
 * The engine's interface to JavaScript is private to Prisma and changes between releases without notice; a mismatch
 * would show as wrong rows rather than as an error, so it is checked before anything is served.
 */

const PRISMA_VERSION = '5.17.0';

/** The commit of prisma-engines in that release; prisma-client-py compares it with the one it expects. */
const ENGINE_COMMIT = '393aa359c9ad4a4bb28630fb5613f9c281cde053';

/**
 * @param {{clientVersion: string, engineCommit: string}} found the installed package and the commit compiled into its
 *   engine
 * @throws {Error} naming both sides when they are not the release above
 */
function requireMatchingVersions({ clientVersion, engineCommit }) {
  if (clientVersion !== PRISMA_VERSION || engineCommit !== ENGINE_COMMIT) {
    throw new Error(
      `written for @prisma/client ${PRISMA_VERSION} (engine ${ENGINE_COMMIT}), ` +
        `but node_modules holds ${clientVersion} (engine ${engineCommit}); rebuild the archive from its lock file`,
    );
  }
}

module.exports = { PRISMA_VERSION, ENGINE_COMMIT, requireMatchingVersions };
