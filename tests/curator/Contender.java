import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.util.Collection;
import java.util.stream.Collectors;

import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderLatchListener;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;
import org.apache.curator.framework.recipes.leader.Participant;
import org.apache.curator.retry.RetryOneTime;

/**
 * A contender of Curator's own, driven by a test.
 *
 * <p>Arguments: {@code latch} or {@code selector}, {@code host:port}, the session's milliseconds,
 * the election's path, the contender's id.
 *
 * <p>Commands, one a line: {@code join}; {@code look}, answered with {@code sees <leader>: <all ids
 * in order>}; {@code close}, which closes the recipe and keeps the session. At the end of the input
 * the process ends. Of itself it says {@code ready} once connected, {@code leading} and
 * {@code lost}.
 *
 * <p>What this does not do: act on a leadership, or count its validity. It goes by what Curator says.
 */
public final class Contender {
    private static final int CONNECT_MS = 15_000;
    private static final int RETRY_MS = 200;

    /** What the two recipes have in common here. */
    private interface Recipe {
        void join() throws Exception;

        void close() throws IOException;

        Participant leader() throws Exception;

        Collection<Participant> participants() throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        int session = Integer.parseInt(arguments[2]);
        CuratorFramework client = CuratorFrameworkFactory.newClient(
            arguments[1], session, CONNECT_MS, new RetryOneTime(RETRY_MS));
        client.start();
        client.blockUntilConnected();
        Recipe recipe = arguments[0].equals("latch")
            ? new Latch(client, arguments[3], arguments[4])
            : new Selector(client, arguments[3], arguments[4]);
        say("ready");
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in));
        for (String command; (command = commands.readLine()) != null; ) {
            switch (command) {
                case "join" -> recipe.join();
                case "look" -> say("sees " + recipe.leader().getId() + ": "
                    + recipe.participants().stream().map(Participant::getId)
                        .collect(Collectors.joining(" ")));
                case "close" -> recipe.close();
                default -> throw new IllegalArgumentException(command);
            }
        }
        System.exit(0);
    }

    private static synchronized void say(String line) {
        System.out.println(line);
        System.out.flush();
    }

    private static final class Latch implements Recipe, LeaderLatchListener {
        private final LeaderLatch latch;

        Latch(CuratorFramework client, String path, String id) {
            latch = new LeaderLatch(client, path, id);
            latch.addListener(this);
        }

        @Override
        public void join() throws Exception {
            latch.start();
        }

        @Override
        public void close() throws IOException {
            latch.close();
        }

        @Override
        public Participant leader() throws Exception {
            return latch.getLeader();
        }

        @Override
        public Collection<Participant> participants() throws Exception {
            return latch.getParticipants();
        }

        @Override
        public void isLeader() {
            say("leading");
        }

        @Override
        public void notLeader() {
            say("lost");
        }
    }

    /** Leads until it is closed or interrupted, as Curator does when the connection is in doubt. */
    private static final class Selector extends LeaderSelectorListenerAdapter implements Recipe {
        private final LeaderSelector selector;

        Selector(CuratorFramework client, String path, String id) {
            selector = new LeaderSelector(client, path, this);
            selector.setId(id);
        }

        @Override
        public void join() {
            selector.start();
        }

        @Override
        public void close() {
            selector.close();
        }

        @Override
        public Participant leader() throws Exception {
            return selector.getLeader();
        }

        @Override
        public Collection<Participant> participants() throws Exception {
            return selector.getParticipants();
        }

        @Override
        public void takeLeadership(CuratorFramework client) throws InterruptedException {
            say("leading");
            try {
                Thread.currentThread().join();
            } finally {
                say("lost");
            }
        }
    }
}
