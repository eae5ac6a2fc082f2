"""Where everything lies, relative to the root of the project, which is the current folder of every stage and flow.

dvc.yaml passes these paths to its stages as arguments (a test holds the two lists together); flows, the release and
the benchmarks take them from here.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]  # of the project; in a bento: its `src`, which is laid out in the same way

PARAMS = Path("params.yaml")
SPACE = Path("search.yaml")  # what models.search tries
CONSTRAINTS = Path("constraints.txt")

DATA = Path("data")
ARCHIVES = DATA / "archives"
WARM_START = DATA / "warm_start"  # holds no model: a training that begins here has new weights
FROM_NOTHING = "from_nothing"  # the file of a folder that stands for no model
SCHEMA = DATA / "schema.json"
INGESTED = DATA / "ingested"
TRUTH = DATA / "truth"
VALIDATED = DATA / "validated"
QUARANTINE = DATA / "quarantine"
FEATURES = DATA / "features"
VIEWS = FEATURES / "views.json"
TRAINING = DATA / "training"
TENSORS = DATA / "tensors"
FEEDBACK = DATA / "feedback"  # what the flow `feedback` collects
FEEDBACK_LOG = FEEDBACK / "log"  # of it the part that ingest reads: dataset.path

ARTIFACTS = Path("artifacts")
ENCODER = ARTIFACTS / "encoder.parquet"
REFERENCE = ARTIFACTS / "reference.json"
MODELS = ARTIFACTS / "models"
MODEL = MODELS / "hinet_plus"  # the model that is packaged, released and served
CHECKPOINTS = ARTIFACTS / "checkpoints"
LIVE = ARTIFACTS / "live"  # the curves of a training while it runs
SEARCH = ARTIFACTS / "search"  # a folder for each study of models.search
EXPORT = ARTIFACTS / "export"  # programs of the model, for those who run it without this project
PREDICTIONS = ARTIFACTS / "predictions"
BENTO = ARTIFACTS / "bento"
BENTOML = ARTIFACTS / "bentoml"  # BENTOML_HOME: the store of BentoML, and what else it keeps
ONLINE_STORE = ARTIFACTS / "online.db"  # made by `dvc repro`
ITEM_SNAPSHOT = ARTIFACTS / "online.items.parquet"  # beside it
SERVING_STORE = ARTIFACTS / "serving" / "online.db"  # kept up to date by the flow `materialize`
EVENTS = ARTIFACTS / "events"  # the queue of POST /events, and the sessions that they change
RELEASES = ARTIFACTS / "releases"
CHAMPION = RELEASES / "champion"  # a link to the release in use
CHAMPION_MODEL = CHAMPION / "model"
NIGHTLY_START = ARTIFACTS / "warm_start"  # where a flow copies the champion, for a training that begins in it
FLOWS = ARTIFACTS / "flows"  # what the flows remember, and their lock

REPORTS = Path("reports")
INDEX = REPORTS / "index.html"
METRICS = REPORTS / "metrics.json"
PLOTS = REPORTS / "plots"  # figures of `dvc plots`
PLOTS_PAGE = REPORTS / "page" / "index.html"
VALIDATION = REPORTS / "validation.json"
DATA_DOCS = REPORTS / "validation" / "index.html"
DRIFT = REPORTS / "drift"
INSPECTION = REPORTS / "inspection"
