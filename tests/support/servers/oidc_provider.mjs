// A real OIDC provider for tests. Whoever types a name is that person; new keys are made at each start.
// Environment: PORT, REDIRECT_URI, LOGGED_OUT_URI.
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { Provider } from 'oidc-provider';

const { PORT, REDIRECT_URI, LOGGED_OUT_URI } = process.env;
const GROUPS = { ada: ['chiefs', 'staff'], grace: ['staff'], mallory: [] };

function newKey() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), alg: 'RS256', use: 'sig' };
}

function person(name) {
  const claims = { sub: name, name, email: `${name}@people.test`, email_verified: true, groups: GROUPS[name] ?? [] };
  return { accountId: name, claims: async () => claims };
}

const provider = new Provider(`http://127.0.0.1:${PORT}`, {
  jwks: { keys: [newKey()] },
  cookies: { keys: [randomUUID()] },
  clients: [
    {
      client_id: 'gatehouse',
      client_secret: 'a secret of the tests alone',
      redirect_uris: [REDIRECT_URI],
      post_logout_redirect_uris: [LOGGED_OUT_URI],
    },
  ],
  pkce: { required: () => true },
  scopes: ['openid', 'email', 'profile', 'groups'],
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'], groups: ['groups'] },
  conformIdTokenClaims: false,
  findAccount: async (_context, name) => person(name),
  features: { devInteractions: { enabled: true }, rpInitiatedLogout: { enabled: true } },
});
provider.listen(Number(PORT), '127.0.0.1');
